#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"
#include "services/cli/request_options.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] =
    R"(With --json the last line holds domain, expert, version, stage, confidence, runner_up
and the candidates with their scores.

--explain shows what each stage of the gate made of the prompt: the rules that were found, every
domain's score, and the time it took. The learned stage is asked even where the rules have decided.

Examples:
  ccoe route --server localhost:50051 "Which SQL query lists the ten best customers?"
  ccoe route --model model.gguf --experts experts --json - < question.txt
  ccoe route --server localhost:50051 --explain "Can my landlord keep the deposit?"
)";

struct Options {
  ConnectionOptions connection;
  std::string prompt;
  double min_confidence = 0;
  bool explain = false;
  bool json = false;
};

void ShowCandidates(Terminal& terminal,
                    const google::protobuf::RepeatedPtrField<v1::RouteCandidate>& candidates) {
  for (const v1::RouteCandidate& candidate : candidates) {
    terminal.OutUntrusted(absl::StrFormat("  %-16s score %.2f, claims from %.2f\n",
                                          candidate.domain(), candidate.score(),
                                          candidate.threshold()));
  }
}

void ShowStage(Terminal& terminal, const v1::RouteStageReport& stage) {
  std::string line =
      absl::StrFormat("%s, %.3f ms", StageName(stage.stage()), Milliseconds(stage.time()));
  if (stage.stage() == v1::ROUTE_STAGE_LEARNED) {
    line +=
        absl::StrFormat(", after the prompt's state in %.1f ms", Milliseconds(stage.state_time()));
  }
  terminal.OutUntrusted(line + "\n");
  ShowCandidates(terminal, stage.candidates());
  for (const v1::RuleHit& hit : stage.rules()) {
    terminal.OutUntrusted(
        absl::StrFormat("    %s %+.2f: %s\n", hit.domain(), hit.weight(), hit.rule()));
  }
}

void ShowText(Terminal& terminal, const v1::RouteResponse& response) {
  const v1::RouteDecision& route = response.route();
  terminal.OutUntrusted(absl::StrFormat("%s: %s%s%s, by %s, confidence %.2f\n", route.domain(),
                                        route.expert(), route.version().empty() ? "" : " ",
                                        route.version(), StageName(route.stage()),
                                        route.confidence()));
  if (response.stages().empty()) ShowCandidates(terminal, response.candidates());
  for (const v1::RouteStageReport& stage : response.stages()) ShowStage(terminal, stage);
}

ExitCode RunRoute(Context& context, const Options& options) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  const auto prompt = ReadPrompt(options.prompt);
  if (!prompt.ok()) {
    terminal.Fail(prompt.status());
    return ExitCode::kUsage;
  }
  ExitCode exit_code = ExitCode::kOk;
  const auto connection = Connection::Open(terminal, options.connection, &exit_code);
  if (connection == nullptr) return exit_code;

  v1::RouteRequest request;
  v1::ChatMessage& user = *request.mutable_chat()->add_messages();
  user.set_role(v1::ROLE_USER);
  user.set_content(*prompt);
  request.mutable_routing()->set_min_confidence(options.min_confidence);
  request.set_explain(options.explain);
  Cancellation cancellation;
  const Signals::Scope scope(context.signals, [&](int) { cancellation.Cancel(); });
  const auto response = connection->client().Route(request, absl::Seconds(30), &cancellation);
  if (!response.ok()) return connection->Report(terminal, response.status());
  if (options.json) {
    terminal.OutJson(rpc::RouteResponseJson(*response));
  } else {
    ShowText(terminal, *response);
  }
  return ExitCode::kOk;
}

}  // namespace

void AddRoute(CLI::App& app, Action* action) {
  CLI::App* command =
      app.add_subcommand("route", "Say which expert would answer a prompt, and why");
  auto options = std::make_shared<Options>();
  command->add_option("PROMPT", options->prompt, "The prompt; - reads it from standard input")
      ->required();
  command->add_flag("--json", options->json, "One line of JSON");
  command->add_flag("--explain", options->explain,
                    "Show the rules that were found, every stage's scores and times");
  command
      ->add_option("--min-confidence", options->min_confidence,
                   "Below it `general` answers, in [0, 1] (default 0)")
      ->check(NumberIn("[0, 1]", [](double value) { return value >= 0 && value <= 1; }));
  AddConnectionOptions(command, &options->connection);
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunRoute(context, *options); };
  });
}

}  // namespace ccoe::cli
