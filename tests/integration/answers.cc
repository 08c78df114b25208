#include "tests/integration/answers.h"

#include <gtest/gtest.h>

namespace ccoe::testing {

runtime::SessionSpec Spec(const std::string& expert, int prompt_tokens, int max_tokens) {
  runtime::SessionSpec spec;
  spec.request_id = "test";
  spec.expert = {expert, ""};
  for (int i = 0; i < prompt_tokens; ++i) spec.prompt.push_back(20 + i * 7 % 200);
  spec.sampling.top_logprobs = 2;
  spec.stop.max_tokens = max_tokens;
  spec.stop.ignore_end_of_generation = true;
  return spec;
}

std::vector<runtime::SessionSpec> MixedSpecs(const std::vector<std::string>& experts) {
  std::vector<runtime::SessionSpec> specs;
  for (const std::string& expert : experts) {
    for (int prompt : {1, 2, 33, 300}) {
      runtime::SessionSpec& spec = specs.emplace_back(Spec(expert, prompt, 12));
      spec.sampling.temperature = prompt % 2 == 0 ? 0.9f : 0.0f;
      spec.sampling.repetition_penalty = 1.1f;
      spec.sampling.presence_penalty = 0.5f;
      spec.sampling.seed = 5;
    }
    specs.emplace_back(Spec(expert, 150, 0)).score_from = 100;
  }
  return specs;
}

std::vector<std::unique_ptr<Collector>> OpenAll(runtime::Engine& engine,
                                                const std::vector<runtime::SessionSpec>& specs) {
  std::vector<std::unique_ptr<Collector>> collectors;
  for (const runtime::SessionSpec& spec : specs) {
    collectors.push_back(std::make_unique<Collector>());
    const auto id = engine.Open(spec, collectors.back().get());
    EXPECT_TRUE(id.ok()) << id.status();
  }
  return collectors;
}

Answer AnswerOf(Collector& collector) {
  EXPECT_TRUE(collector.Wait());
  EXPECT_TRUE(collector.finished.has_value()) << collector.status;
  Answer answer;
  answer.text = collector.text;
  for (const auto& token : collector.tokens) answer.tokens.emplace_back(token.id, token.logprob);
  if (!collector.finished.has_value()) return answer;
  for (const auto& score : collector.finished->scores) {
    answer.scores.emplace_back(score.id, score.logprob);
  }
  return answer;
}

std::vector<Answer> AnswersOf(const std::vector<std::unique_ptr<Collector>>& collectors) {
  std::vector<Answer> answers;
  for (const auto& collector : collectors) answers.push_back(AnswerOf(*collector));
  return answers;
}

std::vector<Answer> RunAll(runtime::Engine& engine,
                           const std::vector<runtime::SessionSpec>& specs) {
  return AnswersOf(OpenAll(engine, specs));
}

}  // namespace ccoe::testing
