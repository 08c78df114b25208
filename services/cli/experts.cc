#include <algorithm>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] = R"(With --json every expert is a line.

Examples:
  ccoe experts --server localhost:50051
  ccoe experts --model model.gguf --experts experts --json | jq -r .name
)";

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

}  // namespace

void AddExperts(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("experts", "List the experts and whether they are ready");
  auto options = std::make_shared<Options>();
  command->add_option("--domain", options->domain, "Only this domain's");
  command->add_flag("--json", options->json, "JSON lines on standard output");
  AddConnectionOptions(command, &options->connection);
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunExperts(context, *options); };
  });
}

}  // namespace ccoe::cli
