#include "services/cli/request_options.h"

#include <iostream>
#include <iterator>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/stubs/common.h"

namespace ccoe::cli {

CLI::Validator NumberIn(const char* range, bool (*inside)(double)) {
  const auto check = [range, inside](const std::string& text) {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && inside(value)) return std::string();
    return absl::StrCat(text, " is not in ", range);
  };
  return CLI::Validator(check, "");
}

void AddRequestOptions(CLI::App* command, RequestOptions* options) {
  const auto target = command->add_option_group("Who answers (default: the prompt decides)");
  auto* domain = target->add_option("--domain", options->domain, "This domain's expert");
  target->add_option("--expert", options->expert, "This expert, as NAME or NAME@VERSION")
      ->excludes(domain);
  const auto answer = command->add_option_group("The answer");
  answer->add_option("--system", options->system, "Instructions that stand before the prompt");
  const CLI::Validator count =
      NumberIn("[0, 2^31)", [](double value) { return value >= 0 && value < 2147483648; });
  answer->add_option("--max-tokens", options->max_tokens, "Most tokens to generate (default 256)")
      ->check(count);
  answer
      ->add_option("--temperature", options->temperature,
                   "0 is greedy, higher is wilder, at most 2 (default 0.7)")
      ->check(NumberIn("[0, 2]", [](double value) { return value >= 0 && value <= 2; }));
  answer->add_option("--top-k", options->top_k, "Only the K likeliest tokens (default 0: all)")
      ->check(count);
  answer
      ->add_option("--top-p", options->top_p,
                   "Only the likeliest tokens that together have this probability (default 0.95)")
      ->check(NumberIn("(0, 1]", [](double value) { return value > 0 && value <= 1; }));
  answer
      ->add_option("--min-p", options->min_p,
                   "Only tokens this probable relative to the likeliest (default 0: all)")
      ->check(NumberIn("[0, 1)", [](double value) { return value >= 0 && value < 1; }));
  answer
      ->add_option("--repetition-penalty", options->repetition_penalty,
                   "Divides the logits of tokens that occurred, at most 10 (default 1: none)")
      ->check(NumberIn("(0, 10]", [](double value) { return value > 0 && value <= 10; }));
  answer->add_option("--seed", options->seed,
                     "Same seed, same answer (default: drawn anew; --json tells it)");
  answer
      ->add_option("--stop", options->stop,
                   "Text that ends the answer and is no part of it; may be given again")
      ->expected(1)
      ->take_all();
  answer
      ->add_option("--timeout", options->timeout_seconds,
                   "Seconds the answer may take (default 600)")
      ->check(CLI::PositiveNumber);
}

v1::GenerateRequest RequestFrom(const RequestOptions& options) {
  v1::GenerateRequest request;
  if (!options.domain.empty()) request.set_domain(options.domain);
  if (!options.expert.empty()) *request.mutable_expert() = ExpertRefFrom(options.expert);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.min_p) sampling.set_min_p(*options.min_p);
  if (options.repetition_penalty) sampling.set_repetition_penalty(*options.repetition_penalty);
  if (options.seed) sampling.set_seed(*options.seed);
  if (options.max_tokens) request.mutable_stop()->set_max_tokens(*options.max_tokens);
  for (const std::string& stop : options.stop) request.mutable_stop()->add_stop_sequences(stop);
  request.mutable_output()->set_token_ids(true);
  return request;
}

v1::ExpertRef ExpertRefFrom(const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('@', 1));
  v1::ExpertRef expert;
  expert.set_name(parts.first);
  expert.set_version(parts.second);
  return expert;
}

absl::StatusOr<std::string> ReadPrompt(const std::string& argument) {
  std::string prompt = argument;
  if (argument == "-") {
    prompt.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
    if (absl::EndsWith(prompt, "\n")) prompt.pop_back();
    if (absl::EndsWith(prompt, "\r")) prompt.pop_back();
  }
  if (prompt.empty()) return absl::InvalidArgumentError("the prompt is empty");
  if (!IsUtf8(prompt)) return absl::InvalidArgumentError("the prompt is not UTF-8");
  return prompt;
}

bool IsUtf8(absl::string_view text) {
  return google::protobuf::internal::IsStructurallyValidUTF8(text.data(),
                                                             static_cast<int>(text.size()));
}

}  // namespace ccoe::cli
