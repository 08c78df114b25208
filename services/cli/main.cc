#include <csignal>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "services/cli/command.h"

namespace {

constexpr char kExamples[] = R"(Examples:
  # One answer from a model and its experts, everything in this process:
  ccoe generate --model model.gguf --experts experts "List the names of all customers in SQL."

  # The same from a server:
  ccoe serve --model model.gguf --experts experts &
  ccoe generate --server localhost:50051 "List the names of all customers in SQL."
  ccoe chat --server localhost:50051

`ccoe COMMAND --help` tells what a command takes and shows it at work.

Exit codes: 0 done; 1 the request failed; 2 wrong usage; 3 no server there;
4 model or expert refused; 5 busy, try again later; 130 interrupted.
)";

// What a wrong command line is told: the commands where one is unknown, else the parser's words.
std::string FailureMessage(const CLI::App* app, const CLI::Error& error) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().back();
  std::vector<std::string> commands;
  for (const CLI::App* command : app->get_subcommands({})) {
    if (!command->get_name().empty()) commands.push_back(command->get_name());
  }
  const std::vector<std::string> unknown = app->remaining();
  if (commands.empty() || unknown.empty()) return CLI::FailureMessage::simple(app, error);
  return absl::StrCat("'", unknown.front(), "' is no command of ", app->get_name(),
                      "; these are: ", absl::StrJoin(commands, ", "), "\n");
}

using ccoe::cli::Action;
using ccoe::cli::Context;
using ccoe::cli::ExitCode;

int Run(int argc, char** argv) {
  ccoe::cli::Signals signals;
  ccoe::cli::Terminal terminal;
  CLI::App app("CCoE: many domain experts from one shared language model.", "ccoe");
  app.require_subcommand(1);
  app.set_version_flag("--version", CCOE_VERSION);
  app.failure_message(FailureMessage);
  app.get_formatter()->column_width(34);

  Action action;
  ccoe::cli::AddGenerate(app, &action);
  ccoe::cli::AddChat(app, &action);
  ccoe::cli::AddRoute(app, &action);
  ccoe::cli::AddServe(app, &action);
  ccoe::cli::AddExperts(app, &action);
  ccoe::cli::AddModel(app, &action);
  ccoe::cli::AddExpert(app, &action);
  ccoe::cli::AddKeys(app, &action);
  ccoe::cli::AddHealth(app, &action);
  ccoe::cli::AddTop(app, &action);
  ccoe::cli::AddVersion(app, &action);
  app.footer(kExamples);  // last: a command takes over the footer that it finds
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  Context context{terminal, signals};
  return static_cast<int>(action(context));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ccoe: error: %s\n", error.what());
    return static_cast<int>(ExitCode::kFailed);
  }
}
