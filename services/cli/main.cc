#include <csignal>
#include <exception>
#include <string>

#include "CLI/CLI.hpp"
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

using ccoe::cli::Action;
using ccoe::cli::Context;
using ccoe::cli::ExitCode;

int Run(int argc, char** argv) {
  ccoe::cli::Signals signals;
  ccoe::cli::Terminal terminal;
  CLI::App app("CCoE: many domain experts from one shared language model.", "ccoe");
  app.require_subcommand(1);
  app.footer(kExamples);
  app.get_formatter()->column_width(34);

  Action action;
  ccoe::cli::AddGenerate(app, &action);
  ccoe::cli::AddChat(app, &action);
  ccoe::cli::AddRoute(app, &action);
  ccoe::cli::AddServe(app, &action);
  ccoe::cli::AddExperts(app, &action);
  ccoe::cli::AddModel(app, &action);
  ccoe::cli::AddExpert(app, &action);
  ccoe::cli::AddHealth(app, &action);
  ccoe::cli::AddVersion(app, &action);
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
