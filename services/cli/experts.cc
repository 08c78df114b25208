#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/cli/call_status.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] = R"(With --json every expert is a line.

Examples:
  ccoe experts --server localhost:50051
  ccoe experts --model model.gguf --experts experts --json | jq -r .name
  ccoe experts push experts/law --admin localhost:50059
  ccoe experts pop law --admin localhost:50059
)";

constexpr char kAdminHelp[] = "The server's admin port, HOST:PORT (`ccoe serve --admin-listen`)";
// Loading a package takes as long as reading and packing its weights.
constexpr absl::Duration kAdminTimeout = absl::Minutes(10);

struct Options {
  ConnectionOptions connection;
  std::string domain;
  bool json = false;
};

bool IsReady(const v1::Expert& expert) { return expert.state() == v1::EXPERT_STATE_READY; }

nlohmann::ordered_json ExpertJson(const v1::Expert& expert) {
  return {{"name", expert.name()},
          {"version", expert.version()},
          {"domain", expert.domain()},
          {"state", IsReady(expert) ? "ready" : "unavailable"},
          {"attach_depth", expert.attach_depth()},
          {"digest", expert.digest()},
          {"licence", expert.license()},
          {"description", expert.description()}};
}

void ShowTable(Terminal& terminal, const v1::ListExpertsResponse& response) {
  constexpr char kRow[] = "%-14s %-14s %-10s %-12s %6s  %s\n";
  terminal.Out(terminal.ForOut(
      Style::kBold, absl::StrFormat(kRow, "DOMAIN", "EXPERT", "VERSION", "STATE", "LAYER", "")));
  for (const auto& expert : response.experts()) {
    terminal.OutUntrusted(absl::StrFormat(
        kRow, expert.domain(), expert.name(), expert.version().empty() ? "-" : expert.version(),
        IsReady(expert) ? "ready" : "unavailable", std::to_string(expert.attach_depth()),
        expert.description()));
  }
}

ExitCode RunExperts(Context& context, const Options& options) {
  if (options.json) context.terminal.AnswerInJson();
  ExitCode exit_code = ExitCode::kOk;
  const auto connection = Connection::Open(context.terminal, options.connection, &exit_code);
  if (connection == nullptr) return exit_code;
  v1::ListExpertsRequest request;
  request.set_domain(options.domain);
  const auto response = connection->client().ListExperts(request, absl::Seconds(30));
  if (!response.ok()) return connection->Report(context.terminal, response.status());
  if (!options.json) {
    ShowTable(context.terminal, *response);
    return ExitCode::kOk;
  }
  for (const auto& expert : response->experts()) context.terminal.OutJson(ExpertJson(expert));
  return ExitCode::kOk;
}

struct AdminOptions {
  std::string admin;
  std::string expert;  // the package's folder, or the expert's name
  std::string version;
  bool json = false;
};

ExitCode ShowChange(Terminal& terminal, const AdminOptions& options, const char* done,
                    const absl::StatusOr<v1::Expert>& expert) {
  if (!expert.ok()) {
    terminal.Fail(expert.status(), absl::StrCat(options.admin, ": ", Explain(expert.status())));
    return IsUnreachable(expert.status()) ? ExitCode::kUnreachable : ExitCode::kRefused;
  }
  if (options.json) {
    terminal.OutJson(ExpertJson(*expert));
  } else {
    terminal.OutUntrusted(absl::StrFormat("%s %s %s, domain %s\n", done, expert->name(),
                                          expert->version(), expert->domain()));
  }
  return ExitCode::kOk;
}

ExitCode RunPush(Context& context, const AdminOptions& options) {
  if (options.json) context.terminal.AnswerInJson();
  std::error_code error;  // the server has a working folder of its own
  const std::filesystem::path folder = std::filesystem::absolute(options.expert, error);
  return ShowChange(context.terminal, options, "pushed",
                    Client::ForAddress(options.admin)->PushExpert(folder.string(), kAdminTimeout));
}

ExitCode RunPop(Context& context, const AdminOptions& options) {
  if (options.json) context.terminal.AnswerInJson();
  return ShowChange(
      context.terminal, options, "popped",
      Client::ForAddress(options.admin)->PopExpert(options.expert, options.version, kAdminTimeout));
}

void AddPush(CLI::App* experts, Action* action) {
  CLI::App* command = experts->add_subcommand(
      "push", "Let a running server serve an expert package, from a folder that it can read");
  auto options = std::make_shared<AdminOptions>();
  command->add_option("FOLDER", options->expert, "The package's folder")->required();
  command->add_option("--admin", options->admin, kAdminHelp)->required();
  command->add_flag("--json", options->json, "One line of JSON: the expert");
  command->footer(
      "Once it returns, new requests may go to the expert. A package that is refused "
      "changes nothing.\nExit codes: 0 served; 4 refused; 3 no server there.\n");
  command->callback([options, action] {
    *action = [options](Context& context) { return RunPush(context, *options); };
  });
}

void AddPop(CLI::App* experts, Action* action) {
  CLI::App* command = experts->add_subcommand("pop", "Take an expert away from a running server");
  auto options = std::make_shared<AdminOptions>();
  command->add_option("NAME", options->expert, "The expert's name")->required();
  command->add_option("--expert-version", options->version, "Its version, where there are several");
  command->add_option("--admin", options->admin, kAdminHelp)->required();
  command->add_flag("--json", options->json, "One line of JSON: the expert as it was");
  command->footer(
      "Requests that have it keep it to their end; new ones go elsewhere.\n"
      "Exit codes: 0 taken away; 4 refused; 3 no server there.\n");
  command->callback([options, action] {
    *action = [options](Context& context) { return RunPop(context, *options); };
  });
}

}  // namespace

void AddExperts(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("experts", "List the experts and whether they are ready");
  auto options = std::make_shared<Options>();
  command->add_option("--domain", options->domain, "Only this domain's");
  command->add_flag("--json", options->json, "JSON lines on standard output");
  AddConnectionOptions(command, &options->connection);
  command->footer(kExamples);
  command->callback([command, options, action] {
    if (!command->get_subcommands().empty()) return;
    *action = [options](Context& context) { return RunExperts(context, *options); };
  });
  AddPush(command, action);
  AddPop(command, action);
}

}  // namespace ccoe::cli
