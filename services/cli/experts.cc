#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"
#include "services/cli/experts_admin.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] = R"(With --json every expert is a line.

Examples:
  ccoe experts --server localhost:50051
  ccoe experts --model model.gguf --experts experts --json | jq -r .name
  ccoe experts push experts/law --admin localhost:50059
  ccoe experts push experts/law --upload --admin gpu1:50059
  ccoe experts pop law --admin localhost:50059
  ccoe experts traffic law 1.0.0=90 1.1.0=10 --admin localhost:50059
)";

struct Options {
  ConnectionOptions connection;
  std::string domain;
  bool json = false;
};

void ShowTable(Terminal& terminal, const v1::ListExpertsResponse& response) {
  constexpr char kRow[] = "%-14s %-14s %-10s %-13s %6s  %s\n";
  terminal.Out(terminal.ForOut(
      Style::kBold, absl::StrFormat(kRow, "DOMAIN", "EXPERT", "VERSION", "STATE", "LAYER", "")));
  for (const auto& expert : response.experts()) {
    std::string state = StateName(expert.state());
    if (expert.state() == v1::EXPERT_STATE_LOADING) {
      absl::StrAppendFormat(&state, " %.0f%%", expert.load_progress() * 100);
    }
    terminal.OutUntrusted(absl::StrFormat(
        kRow, expert.domain(), expert.name(), expert.version().empty() ? "-" : expert.version(),
        state, std::to_string(expert.attach_depth()), expert.description()));
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
  command->callback([command, options, action] {
    if (!command->get_subcommands().empty()) return;
    *action = [options](Context& context) { return RunExperts(context, *options); };
  });
  AddExpertsPush(*command, action);
  AddExpertsPop(*command, action);
  AddExpertsTraffic(*command, action);
}

}  // namespace ccoe::cli
