#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/integration/engine_harness.h"

// Sessions of every kind, and what they gave to the last bit.
namespace ccoe::testing {

// Reports two log probabilities a token and does not end before `max_tokens`.
runtime::SessionSpec Spec(const std::string& expert, int prompt_tokens, int max_tokens);
// For each expert: greedy and sampled, short prompts and long ones, 12 tokens each; and a score.
std::vector<runtime::SessionSpec> MixedSpecs(const std::vector<std::string>& experts);

struct Answer {
  std::vector<std::pair<int32_t, float>> tokens;
  std::vector<std::pair<int32_t, float>> scores;
  std::string text;
  friend bool operator==(const Answer&, const Answer&) = default;
};

std::vector<std::unique_ptr<Collector>> OpenAll(runtime::Engine& engine,
                                                const std::vector<runtime::SessionSpec>& specs);
// Waits for the end, which must not be a failure.
Answer AnswerOf(Collector& collector);
std::vector<Answer> AnswersOf(const std::vector<std::unique_ptr<Collector>>& collectors);
std::vector<Answer> RunAll(runtime::Engine& engine, const std::vector<runtime::SessionSpec>& specs);

}  // namespace ccoe::testing
