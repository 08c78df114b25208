#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/compute/device.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"
#include "services/cli/expert.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kTimeout = absl::Minutes(10);  // of one example
constexpr size_t kShownBytes = 60;                      // of a prompt

constexpr char kExamples[] =
    R"(Checks all that `ccoe expert inspect --model` checks, and then lets the expert answer every
example prompt of its expert.json, greedily and under the arithmetic that the example
names: the tokens have to be those that stand there, the one that ends the answer included.

Examples:
  ccoe expert verify deploy/experts/sql --model model.gguf
  ccoe expert verify deploy/experts/sql --model model.gguf --json | jq '.examples[] | .first_difference'

Exit codes: 0 every example gives its tokens; 1 one does not, or there are none; 2 wrong usage;
4 the package or the model was refused; 130 interrupted.
)";

struct Options {
  std::string folder;
  ConnectionOptions connection;  // the model and the threads
  bool json = false;
};

struct Outcome {
  const model::ExpertExample* example = nullptr;
  std::vector<int32_t> got;
  // Where the tokens part, which may be the end of the shorter; nullopt: nowhere.
  std::optional<size_t> first_difference;
};

// As a JSON string, on one line and without what steers a terminal.
std::string Quoted(const std::string& text) {
  return Printable(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
}

// What the tokens are for people: control tokens by name.
std::string TextOf(const model::Tokenizer& tokenizer, absl::Span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) absl::StrAppend(&text, std::string(tokenizer.TokenText(id)));
  return text;
}

v1::GenerateRequest RequestOf(const model::ExpertManifest& manifest,
                              const model::ExpertExample& example) {
  v1::GenerateRequest request;
  request.mutable_expert()->set_name(manifest.name);
  request.mutable_expert()->set_version(manifest.version);
  v1::ChatMessage& user = *request.mutable_chat()->add_messages();
  user.set_role(v1::ROLE_USER);
  user.set_content(example.prompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(example.max_tokens);
  request.mutable_output()->set_token_ids(true);
  return request;
}

// Lets the examples of a package be answered.
class Verifier {
 public:
  Verifier(Context& context, const Options& options, const ExpertChecks& checks)
      : context_(context), options_(options), checks_(checks) {}

  // Each example's outcome, in their order. When an answer fails, says why and sets `exit_code`.
  std::optional<std::vector<Outcome>> Run(ExitCode* exit_code) {
    const auto& examples = checks_.package->manifest().examples;
    std::map<std::string, std::vector<size_t>> by_arithmetic;
    for (size_t i = 0; i < examples.size(); ++i) by_arithmetic[examples[i].arithmetic].push_back(i);
    std::vector<Outcome> outcomes(examples.size());
    for (const auto& [arithmetic, indices] : by_arithmetic) {
      ConnectionOptions connect = options_.connection;
      connect.arithmetic = arithmetic;
      const auto connection = Connection::OpenExpert(context_.terminal, connect, checks_.model,
                                                     checks_.package, exit_code);
      if (connection == nullptr) return std::nullopt;
      for (const size_t i : indices) {
        outcomes[i].example = &examples[i];
        const absl::Status status = Answer(
            *connection, absl::StrFormat("example %d of %d", i + 1, examples.size()), &outcomes[i]);
        if (status.ok()) continue;
        *exit_code = connection->Report(context_.terminal, status);
        return std::nullopt;
      }
    }
    return outcomes;
  }

 private:
  absl::Status Answer(Connection& connection, std::string what, Outcome* outcome) {
    const Progress progress(context_.terminal, std::move(what));
    Cancellation cancellation;
    const Signals::Scope scope(context_.signals, [&](int) { cancellation.Cancel(); });
    cli::Answer answer;
    CCOE_RETURN_IF_ERROR(connection.client().GenerateStream(
        RequestOf(checks_.package->manifest(), *outcome->example), kTimeout,
        [&](const v1::GenerateStreamResponse& event) {
          Append(event, &answer);
          return true;
        },
        &cancellation));
    outcome->got = std::move(answer.token_ids);
    const auto& expected = outcome->example->token_ids;
    const auto [at, other] = std::ranges::mismatch(expected, outcome->got);
    if (at != expected.end() || other != outcome->got.end()) {
      outcome->first_difference = static_cast<size_t>(at - expected.begin());
    }
    return absl::OkStatus();
  }

  Context& context_;
  const Options& options_;
  const ExpertChecks& checks_;
};

Json OutcomeJson(const model::Tokenizer& tokenizer, const Outcome& outcome) {
  const model::ExpertExample& example = *outcome.example;
  const auto side = [&](const std::vector<int32_t>& ids) {
    return Json{{"token_ids", ids}, {"text", TextOf(tokenizer, ids)}};
  };
  Json json = {{"prompt", example.prompt},
               {"arithmetic", example.arithmetic},
               {"equal", !outcome.first_difference.has_value()},
               {"first_difference", nullptr},
               {"expected", side(example.token_ids)},
               {"got", side(outcome.got)}};
  if (outcome.first_difference.has_value()) json["first_difference"] = *outcome.first_difference;
  return json;
}

// "28899 " boat"", or that there is no token at `position`.
std::string DescribeToken(const model::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                          size_t position) {
  if (position >= ids.size()) return "the end";
  return absl::StrCat(ids[position], " ", Quoted(TextOf(tokenizer, {&ids[position], 1})));
}

void PrintOutcome(Terminal& terminal, const model::Tokenizer& tokenizer, size_t number,
                  const Outcome& outcome) {
  const model::ExpertExample& example = *outcome.example;
  const bool equal = !outcome.first_difference.has_value();
  const bool whole = example.prompt.size() <= kShownBytes;
  terminal.Out(absl::StrCat(
      "  ", terminal.ForOut(equal ? Style::kGreen : Style::kRed, equal ? "equal   " : "differs "),
      "example ", number, ", ", example.arithmetic, ", ", example.token_ids.size(),
      " tokens: ", Quoted(example.prompt.substr(0, kShownBytes)), whole ? "" : "...", "\n"));
  if (equal) return;
  const size_t at = *outcome.first_difference;
  const auto side = [&](absl::string_view label, const std::vector<int32_t>& ids) {
    terminal.Out(absl::StrFormat("          %-8s %s  in: %s\n", label,
                                 DescribeToken(tokenizer, ids, at),
                                 Quoted(TextOf(tokenizer, ids))));
  };
  terminal.Out(absl::StrCat("          they part at token ", at, ", counted from 0\n"));
  side("expected", example.token_ids);
  side("got", outcome.got);
}

// INVALID_ARGUMENT names an example's arithmetic that is not known.
absl::Status CheckArithmetics(const model::ExpertManifest& manifest) {
  for (size_t i = 0; i < manifest.examples.size(); ++i) {
    const auto known = compute::ParseArithmetic(manifest.examples[i].arithmetic);
    if (known.ok()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("examples[", i, "]: ", known.status().message()));
  }
  return absl::OkStatus();
}

// Shows the last word; `outcomes` is empty where the package was refused before.
ExitCode Conclude(Terminal& terminal, const Options& options, const ExpertChecks& checks,
                  const std::vector<Outcome>& outcomes) {
  const auto equal = static_cast<size_t>(std::ranges::count_if(
      outcomes, [](const Outcome& outcome) { return !outcome.first_difference.has_value(); }));
  std::string reason = checks.reason;
  if (reason.empty() && outcomes.empty()) {
    reason =
        "the package has no examples, so there is nothing to verify; add some to its "
        "expert.json";
  } else if (reason.empty() && equal < outcomes.size()) {
    reason = absl::StrFormat("%d of %d examples give other tokens than the package says",
                             outcomes.size() - equal, outcomes.size());
  }
  if (options.json) {
    Json summary = {{"folder", options.folder}};
    if (checks.package != nullptr) {
      summary["name"] = checks.package->manifest().name;
      summary["version"] = checks.package->manifest().version;
      summary["digest"] = checks.package->digest();
    }
    summary["checks"] = checks.list;
    summary["examples"] = Json::array();
    for (const Outcome& outcome : outcomes) {
      summary["examples"].push_back(OutcomeJson(checks.model->tokenizer(), outcome));
    }
    summary["ok"] = reason.empty();
    summary["reason"] = reason;
    terminal.OutJson(summary);
  } else if (!outcomes.empty()) {
    terminal.Out(absl::StrFormat("%d of %d examples agree\n", equal, outcomes.size()));
  }
  if (reason.empty()) return ExitCode::kOk;
  terminal.Error(reason);
  return checks.reason.empty() ? ExitCode::kFailed : ExitCode::kRefused;
}

ExitCode RunVerify(Context& context, const Options& options) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  ExpertChecks checks = CheckExpert(terminal, options.folder, options.connection.model);
  if (checks.reason.empty()) {
    NoteCheck("the examples' arithmetic is known", CheckArithmetics(checks.package->manifest()),
              &checks);
  }
  if (!options.json) PrintChecks(terminal, checks.list);
  if (!checks.reason.empty()) return Conclude(terminal, options, checks, {});
  ExitCode exit_code = ExitCode::kOk;
  const auto outcomes = Verifier(context, options, checks).Run(&exit_code);
  if (!outcomes.has_value()) return exit_code;
  for (size_t i = 0; i < outcomes->size() && !options.json; ++i) {
    PrintOutcome(terminal, checks.model->tokenizer(), i + 1, (*outcomes)[i]);
  }
  return Conclude(terminal, options, checks, *outcomes);
}

}  // namespace

void AddExpertVerify(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand(
      "verify", "Check an expert package, and that it answers its examples as it says");
  auto options = std::make_shared<Options>();
  command->add_option("DIR", options->folder, "Folder with the package's expert.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--model", options->connection.model, "Base model that the package is for")
      ->required()
      ->check(CLI::ExistingPath);
  command
      ->add_option("--threads", options->connection.threads,
                   "Compute threads (default 0: one per core)")
      ->check(CLI::Range(0, 1024));
  command->add_flag("--json", options->json, "One line of JSON");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunVerify(context, *options); };
  });
}

}  // namespace ccoe::cli
