#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"
#include "services/cli/request_options.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] =
    R"(The answer streams to standard output; who answers, and why, is told on
standard error when that is a terminal. With --json every event is a line, and the
last line holds the whole answer: text, token_ids, domain, expert, route,
finish_reason, usage, timings_ms, steps, candidates; or, with the event `error`, why
there is none.

With --plan the prompt is split into steps for several domains, where it asks for
that; with --step the steps are given. They share one context: each sees the answers
before it. With --best-of several experts answer, and the answer that its expert finds
likeliest is shown.

Examples:
  ccoe generate --model model.gguf --experts experts "Write SQL: how many customers are there?"
  ccoe generate --server localhost:50051 --domain sql --temperature 0 "All orders of 2024."
  git diff | ccoe generate --server localhost:50051 --system "Summarise this change." -
  ccoe generate --server localhost:50051 --plan "Write the SQL for the revenue of each month,
      then a Python function that runs it."
  ccoe generate --server localhost:50051 --step "sql: Which customers have open orders?"
      --step "code: Write a Python function that prints them."
  ccoe generate --server localhost:50051 --best-of sql,code "List the orders of 2024."
  ccoe generate --model model.gguf --raw --max-tokens 20 "Once upon a time"
  ccoe generate --model model.gguf --json "Hello" | tail -n 1 | jq .usage
)";

struct Options {
  ConnectionOptions connection;
  RequestOptions request;
  std::string prompt;
  bool plan = false;
  std::vector<std::string> steps;  // DOMAIN: INSTRUCTION
  std::string best_of;             // NAME or NAME@VERSION, between commas
  bool raw = false;
  bool json = false;
};

std::string DescribeRoute(const v1::RouteDecision& route) {
  std::string text = absl::StrCat(route.domain(), ": ", route.expert());
  if (!route.version().empty()) absl::StrAppend(&text, " ", route.version());
  absl::StrAppend(&text, ", by ", StageName(route.stage()));
  if (route.stage() != v1::ROUTE_STAGE_EXPLICIT) {
    absl::StrAppendFormat(&text, ", confidence %.2f", route.confidence());
    if (!route.runner_up().empty()) absl::StrAppend(&text, ", then ", route.runner_up());
  }
  return text;
}

std::string DescribeEnd(const v1::Finished& finished) {
  const double decode_ms = Milliseconds(finished.timings().decode());
  const int tokens = finished.usage().completion_tokens();
  const double rate = decode_ms > 0 && tokens > 1 ? (tokens - 1) / decode_ms * 1e3 : 0;
  return absl::StrFormat(
      "%d prompt tokens, %d generated, %s; first token after %.0f ms, then %.1f tokens/s",
      finished.usage().prompt_tokens(), tokens, ReasonName(finished.reason()),
      Milliseconds(finished.timings().total()) - decode_ms, rate);
}

// Shows one event as text; false when nobody reads it any more.
bool ShowText(Terminal& terminal, const v1::GenerateStreamResponse& event) {
  if (event.has_delta()) return terminal.OutUntrusted(event.delta().text());
  if (!terminal.err_is_terminal()) return true;
  if (event.has_step_started() && !event.step_started().instruction().empty()) {
    const v1::StepStarted& step = event.step_started();
    const std::string title = Printable(
        absl::StrCat("step ", step.step() + 1, ", ", step.domain(), ": ", step.instruction()));
    const char* before = step.step() == 0 ? "" : "\n";
    terminal.Err(absl::StrCat(before, terminal.ForErr(Style::kCyan, title), "\n"));
  }
  if (event.has_started()) {
    const std::string route = Printable(DescribeRoute(event.started().route()));
    terminal.Err(terminal.ForErr(Style::kCyan, route) + "\n");
  }
  return true;
}

bool ShowJson(Terminal& terminal, const v1::GenerateStreamResponse& event) {
  if (event.has_started()) return terminal.OutJson(StartedJson(event.started()));
  if (event.has_step_started()) return terminal.OutJson(StepStartedJson(event.step_started()));
  if (event.has_delta()) return terminal.OutJson(DeltaJson(event.delta()));
  return true;
}

void ShowEnd(Terminal& terminal, const Answer& answer, bool json) {
  if (json) {
    terminal.OutJson(AnswerJson(answer));
    return;
  }
  if (!absl::EndsWith(answer.text, "\n")) terminal.Out("\n");
  if (!terminal.err_is_terminal()) return;
  std::string end = DescribeEnd(answer.finished);
  for (const v1::CandidateReport& candidate : answer.finished.candidates()) {
    absl::StrAppendFormat(&end, "\n%s %s: mean log probability %.3f%s", candidate.expert(),
                          candidate.version(), candidate.mean_logprob(),
                          candidate.selected() ? ", chosen" : "");
  }
  terminal.Err(terminal.ForErr(Style::kDim, Printable(end)) + "\n");
}

void SetPrompt(const Options& options, const std::string& prompt, v1::GenerateRequest* request) {
  if (options.raw) {
    request->mutable_text()->set_text(prompt);
    return;
  }
  if (!options.request.system.empty()) {
    v1::ChatMessage& system = *request->mutable_chat()->add_messages();
    system.set_role(v1::ROLE_SYSTEM);
    system.set_content(options.request.system);
  }
  if (prompt.empty()) return;
  v1::ChatMessage& user = *request->mutable_chat()->add_messages();
  user.set_role(v1::ROLE_USER);
  user.set_content(prompt);
}

// Adds a plan, or the experts that are to answer.
absl::Status SetSteps(const Options& options, v1::GenerateRequest* request) {
  if (options.plan) request->mutable_plan()->set_automatic(true);
  for (const std::string& text : options.steps) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
    v1::PlanStep& step = *request->mutable_plan()->add_steps();
    step.set_domain(std::string(absl::StripAsciiWhitespace(parts.first)));
    step.set_instruction(std::string(absl::StripAsciiWhitespace(parts.second)));
    if (step.domain().empty() || step.instruction().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--step '", text, "' is not DOMAIN: INSTRUCTION"));
    }
  }
  for (const absl::string_view name : absl::StrSplit(options.best_of, ',', absl::SkipEmpty())) {
    *request->add_experts() = ExpertRefFrom(std::string(absl::StripAsciiWhitespace(name)));
    request->set_select(v1::SELECT_BEST);
  }
  return absl::OkStatus();
}

ExitCode RunGenerate(Context& context, const Options& options) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  absl::StatusOr<std::string> prompt = options.prompt;
  if (options.steps.empty() || !options.prompt.empty()) prompt = ReadPrompt(options.prompt);
  v1::GenerateRequest request = RequestFrom(options.request);
  const absl::Status steps = SetSteps(options, &request);
  if (!prompt.ok() || !steps.ok()) {
    terminal.Fail(prompt.ok() ? steps : prompt.status());
    return ExitCode::kUsage;
  }
  ExitCode exit_code = ExitCode::kOk;
  const auto connection = Connection::Open(terminal, options.connection, &exit_code);
  if (connection == nullptr) return exit_code;

  SetPrompt(options, *prompt, &request);
  Answer answer;
  Cancellation cancellation;
  absl::Status status;
  {
    const Signals::Scope scope(context.signals, [&](int) { cancellation.Cancel(); });
    status = connection->client().GenerateStream(
        request, options.request.timeout(),
        [&](const v1::GenerateStreamResponse& event) {
          Append(event, &answer);
          return options.json ? ShowJson(terminal, event) : ShowText(terminal, event);
        },
        &cancellation);
  }
  if (status.ok()) {
    ShowEnd(terminal, answer, options.json);
    return ExitCode::kOk;
  }
  if (!options.json && !answer.text.empty()) terminal.Out("\n");
  return connection->Report(terminal, status);
}

}  // namespace

void AddGenerate(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("generate", "Answer one prompt");
  auto options = std::make_shared<Options>();
  command->add_option("PROMPT", options->prompt,
                      "The prompt; - reads it from standard input (may be left out with --step)");
  const auto steps = command->add_option_group("Several experts");
  CLI::Option* plan = steps->add_flag("--plan", options->plan,
                                      "Split the prompt into steps, each for its own expert");
  CLI::Option* step = steps->add_option("--step", options->steps,
                                        "A step, as DOMAIN: INSTRUCTION; may be given again");
  step->expected(1)->take_all()->excludes(plan);
  CLI::Option* best_of =
      steps->add_option("--best-of", options->best_of,
                        "Let these experts answer, as NAME,NAME@VERSION,..., and show the best");
  best_of->excludes(plan)->excludes(step);
  command->add_flag("--json", options->json, "JSON lines on standard output");
  CLI::Option* raw =
      command->add_flag("--raw", options->raw, "Continue the prompt as it is: no chat template");
  AddConnectionOptions(command, &options->connection);
  AddRequestOptions(command, &options->request);
  raw->excludes(command->get_option("--system"))->excludes(plan)->excludes(step);
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunGenerate(context, *options); };
  });
}

}  // namespace ccoe::cli
