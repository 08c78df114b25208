// Sessions of several steps: another expert goes on in the same context, and answers bit for bit as
// a session of its own over the same tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "common/base/error.h"
#include "tests/integration/answers.h"
#include "tests/integration/expert_engines.h"

namespace ccoe::testing {
namespace {

using runtime::NextStep;
using runtime::SessionSpec;
using From = NextStep::From;

constexpr int kAnswerTokens = 9;

class StepsTest : public ExpertEnginesTest {
 protected:
  StepsTest() : ExpertEnginesTest(TwoDepthPackages()) {}

  static NextStep Next(const std::string& expert, int tokens, From from = From::kAnswer) {
    NextStep next;
    next.expert = {expert, ""};
    next.from = from;
    for (int i = 0; i < tokens; ++i) next.tokens.push_back(30 + i * 11 % 200);
    next.sampling.top_logprobs = 2;
    next.sampling.temperature = tokens % 2 == 0 ? 0.8f : 0.0f;
    next.sampling.presence_penalty = 0.5f;
    next.sampling.seed = tokens;
    next.stop.max_tokens = kAnswerTokens;
    next.stop.ignore_end_of_generation = true;
    return next;
  }
  static SessionSpec Steps(const std::string& expert, int prompt, std::vector<NextStep> next) {
    SessionSpec spec = Spec(expert, prompt, kAnswerTokens);
    spec.next_steps = std::move(next);
    return spec;
  }
  // Every ordered pair of experts, each expert after itself too, from the answer and from the
  // prompt.
  static std::vector<SessionSpec> AllPairs() {
    std::vector<SessionSpec> specs;
    for (const std::string& first : kTwoDepthExperts) {
      for (const std::string& second : kTwoDepthExperts) {
        for (const std::string& third : kTwoDepthExperts) {
          const int prompt = 1 + static_cast<int>(specs.size()) * 5 % 90;
          specs.push_back(
              Steps(first, prompt,
                    {Next(second, 1 + prompt % 7),
                     Next(third, 6, specs.size() % 2 == 0 ? From::kAnswer : From::kPrompt)}));
        }
      }
      specs.push_back(Steps(first, 40, {Next("tiny-lora", 0, From::kPrompt), Next(first, 3)}));
    }
    return specs;
  }
  static std::vector<std::pair<int32_t, float>> TokensOf(const Collector& collector, size_t begin,
                                                         size_t count) {
    std::vector<std::pair<int32_t, float>> tokens;
    for (size_t i = begin; i < begin + count; ++i) {
      tokens.emplace_back(collector.tokens.at(i).id, collector.tokens.at(i).logprob);
    }
    return tokens;
  }
  // Compares every step with a session of its own over the tokens that it found.
  static void ExpectAsFresh(runtime::Engine& reference, const SessionSpec& spec,
                            const Collector& got) {
    ASSERT_TRUE(got.finished.has_value()) << got.status;
    ASSERT_EQ(got.steps.size(), spec.next_steps.size());
    std::vector<int32_t> context = spec.prompt;
    size_t begin = 0;
    for (size_t step = 0; step <= spec.next_steps.size(); ++step) {
      SessionSpec fresh = Spec(spec.expert.name, 1, kAnswerTokens);
      if (step > 0) {
        const NextStep& next = spec.next_steps[step - 1];
        fresh.expert = next.expert;
        fresh.sampling = next.sampling;
        fresh.stop = next.stop;
        if (next.from == From::kPrompt) context.resize(spec.prompt.size());
        if (got.steps[step - 1].reason == runtime::FinishReason::kStop) context.pop_back();
        context.insert(context.end(), next.tokens.begin(), next.tokens.end());
      }
      fresh.prompt = context;
      const Answer expected = RunAll(reference, {fresh})[0];
      const runtime::Finished& finished = step < got.steps.size() ? got.steps[step] : *got.finished;
      const size_t count = finished.usage.completion_tokens;
      EXPECT_EQ(finished.usage.prompt_tokens, static_cast<int>(context.size()));
      EXPECT_EQ(TokensOf(got, begin, count), expected.tokens)
          << "step " << step << " of " << spec.expert.name << " on " << fresh.expert.name;
      for (const auto& [id, logprob] : expected.tokens) context.push_back(id);
      begin += count;
    }
  }
  void ExpectAllAsFresh() {
    const auto reference = WithPackages(setup_);
    const std::vector<SessionSpec> specs = AllPairs();
    const auto collectors = OpenAll(*engine_, specs);
    for (size_t i = 0; i < specs.size(); ++i) {
      ASSERT_TRUE(collectors[i]->Wait());
      ExpectAsFresh(*reference, specs[i], *collectors[i]);
    }
    ExpectAtRest();
  }
};

TEST_F(StepsTest, EveryStepAnswersAsASessionOfItsOwn) {
  for (int step_rows : {256, 17, 1}) {
    SCOPED_TRACE(step_rows);
    setup_.max_step_rows = step_rows;
    engine_ = WithPackages(setup_);
    ExpectAllAsFresh();
  }
}

TEST_F(StepsTest, SoItIsWhereTheExpertsAreElsewhere) {
  Split(2, 1, {1, 2, 2, 1}, 2);
  ExpectAllAsFresh();
  Split(2, 1, {1, 2, 1, 1}, 2);
  ExpectAllAsFresh();
  // The backbone has every layer and serves `general` itself.
  Split(4, 1, {0, 2, 2, 1}, 2);
  ExpectAllAsFresh();
}

TEST_F(StepsTest, WhatIsBelowTheSwitchIsNotComputedAgain) {
  engine_ = WithPackages(setup_);
  const SessionSpec spec = Steps("tiny-lora", 50, {Next("tiny-full", 5), Next("tiny-early", 5)});
  const auto collectors = OpenAll(*engine_, {spec});
  ASSERT_TRUE(collectors[0]->Wait());
  ASSERT_TRUE(collectors[0]->finished.has_value()) << collectors[0]->status;
  EXPECT_EQ(collectors[0]->steps[0].usage.cached_tokens, 0);
  // All that ran: the last token of the answer had not.
  EXPECT_EQ(collectors[0]->steps[1].usage.cached_tokens, 50 + kAnswerTokens - 1);
  EXPECT_EQ(collectors[0]->finished->usage.cached_tokens, 50 + 2 * kAnswerTokens + 5 - 1);
}

TEST_F(StepsTest, TheTokenThatEndsAnAnswerStaysOutOfTheContext) {
  engine_ = WithPackages(setup_);
  const auto reference = WithPackages(setup_);
  int ended = 0;
  for (uint64_t seed = 0; seed < 400 && ended < 2; ++seed) {
    SessionSpec spec = Steps("tiny-lora", 20, {Next("tiny-full", 4)});
    spec.sampling.temperature = 1.5F;
    spec.sampling.seed = seed;
    spec.stop.ignore_end_of_generation = false;
    const auto collectors = OpenAll(*engine_, {spec});
    ASSERT_TRUE(collectors[0]->Wait());
    ASSERT_TRUE(collectors[0]->finished.has_value()) << collectors[0]->status;
    const runtime::Finished& first = collectors[0]->steps[0];
    if (first.reason != runtime::FinishReason::kStop) continue;
    ++ended;
    EXPECT_EQ(collectors[0]->finished->usage.prompt_tokens,
              20 + first.usage.completion_tokens - 1 + 4);
    std::vector<int32_t> context = spec.prompt;
    for (int i = 0; i + 1 < first.usage.completion_tokens; ++i) {
      context.push_back(collectors[0]->tokens[i].id);
    }
    SessionSpec fresh = Spec("tiny-full", 1, kAnswerTokens);
    fresh.sampling = spec.next_steps[0].sampling;
    fresh.prompt = context;
    fresh.prompt.insert(fresh.prompt.end(), spec.next_steps[0].tokens.begin(),
                        spec.next_steps[0].tokens.end());
    EXPECT_EQ(TokensOf(*collectors[0], first.usage.completion_tokens, kAnswerTokens),
              RunAll(*reference, {fresh})[0].tokens);
  }
  EXPECT_EQ(ended, 2) << "no seed ended an answer";
}

TEST_F(StepsTest, EveryStepHasItsOwnStopConditions) {
  engine_ = WithPackages(setup_);
  SessionSpec spec = Steps("tiny-lora", 20, {Next("tiny-full", 4), Next("general", 4)});
  const auto free_run = OpenAll(*engine_, {spec});
  ASSERT_TRUE(free_run[0]->Wait());
  std::string stop;
  for (size_t i = size_t{2} * kAnswerTokens; i-- > kAnswerTokens && stop.empty();) {
    const auto bytes = model_->tokenizer().TokenBytes(free_run[0]->tokens[i].id);
    if (std::all_of(bytes.begin(), bytes.end(), absl::ascii_isprint)) stop = std::string(bytes);
  }
  ASSERT_FALSE(stop.empty());
  spec.next_steps[0].stop.stop_sequences = {stop};
  const auto stopped = OpenAll(*engine_, {spec});
  ASSERT_TRUE(stopped[0]->Wait());
  ASSERT_TRUE(stopped[0]->finished.has_value()) << stopped[0]->status;
  EXPECT_EQ(stopped[0]->steps[0].reason, runtime::FinishReason::kLength);
  EXPECT_EQ(stopped[0]->steps[1].reason, runtime::FinishReason::kStopSequence);
  EXPECT_EQ(stopped[0]->steps[1].matched_stop, stop);
  EXPECT_EQ(stopped[0]->finished->reason, runtime::FinishReason::kLength);
  EXPECT_EQ(stopped[0]->finished->usage.completion_tokens, kAnswerTokens);
}

// A replica without room for the whole plan has room for each step.
TEST_F(StepsTest, AReplicaKeepsNoMoreThanAStepNeeds) {
  Split(2, 1, {1, 2, 2, 1}, 2);
  const std::vector<NextStep> next = {Next("tiny-full", 5), Next("tiny-lora", 5)};
  const SessionSpec spec = Steps("tiny-lora", 60, next);
  Collector collector;
  collector.HoldAfter(3);
  ASSERT_TRUE(engine_->Open(spec, &collector).ok());
  collector.WaitForTokens(3);
  const int of_first = upper_->Stats().kv_pages_used;
  collector.HoldAfter(2 * kAnswerTokens + 3);
  collector.WaitForTokens(2 * kAnswerTokens + 3);
  EXPECT_GT(upper_->Stats().kv_pages_used, of_first);
  collector.Release();
  ASSERT_TRUE(collector.Wait());
  ExpectAsFresh(*WithPackages(setup_), spec, collector);
  ExpectAtRest();
}

TEST_F(StepsTest, AReplicaMayBeLostInAnyStep) {
  const std::vector<SessionSpec> specs = {
      Steps("tiny-lora", 60, {Next("tiny-early", 5), Next("tiny-full", 5)})};
  const auto reference = WithPackages(setup_);
  for (size_t after : {3, 12, 20}) {
    SCOPED_TRACE(after);
    Split(2, 1, {1, 2, 2, 1}, 2);
    Collector collector;
    collector.HoldAfter(after);
    ASSERT_TRUE(engine_->Open(specs[0], &collector).ok());
    collector.WaitForTokens(after);
    for (size_t i = 0; i < links_.size(); i += 2) links_[i]->Cut();  // one replica of each
    collector.Release();
    ASSERT_TRUE(collector.Wait());
    ExpectAsFresh(*reference, specs[0], collector);
    ExpectAtRest();
  }
}

TEST_F(StepsTest, ACancelledSessionLeavesNothing) {
  engine_ = WithPackages(setup_);
  Collector collector;
  collector.HoldAfter(kAnswerTokens + 2);
  const auto id = engine_->Open(
      Steps("tiny-lora", 60, {Next("tiny-early", 5), Next("tiny-full", 5)}), &collector);
  ASSERT_TRUE(id.ok());
  collector.WaitForTokens(kAnswerTokens + 2);
  engine_->Cancel(*id, absl::CancelledError("enough"));
  collector.Release();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(collector.steps.size(), 1u);
  ExpectAtRest();
}

TEST_F(StepsTest, APopMidwayChangesNothing) {
  engine_ = WithPackages(setup_);
  const SessionSpec spec = Steps("tiny-lora", 60, {Next("tiny-early", 5), Next("tiny-full", 5)});
  Collector collector;
  collector.HoldAfter(4);
  ASSERT_TRUE(engine_->Open(spec, &collector).ok());
  collector.WaitForTokens(4);
  ASSERT_TRUE(engine_->RemoveExpert({"tiny-full", "1.0.0"}).ok());
  collector.Release();
  ASSERT_TRUE(collector.Wait());
  ExpectAsFresh(*WithPackages(setup_), spec, collector);
}

TEST_F(StepsTest, WhatCannotBeIsRefusedAtOnce) {
  engine_ = WithPackages(setup_);
  Collector collector;
  const auto reason = [&](const SessionSpec& spec) {
    return engine_->Open(spec, &collector).status();
  };
  SessionSpec unknown = Steps("tiny-lora", 5, {Next("nobody", 3)});
  EXPECT_EQ(reason(unknown).code(), absl::StatusCode::kNotFound);
  SessionSpec nothing_between = Steps("tiny-lora", 5, {Next("tiny-full", 0)});
  EXPECT_EQ(reason(nothing_between).code(), absl::StatusCode::kInvalidArgument);
  SessionSpec empty_step = Steps("tiny-lora", 5, {Next("tiny-full", 3)});
  empty_step.next_steps[0].stop.max_tokens = 0;
  EXPECT_EQ(reason(empty_step).code(), absl::StatusCode::kInvalidArgument);
  SessionSpec scored = Steps("tiny-lora", 5, {Next("tiny-full", 3)});
  scored.score_from = 2;
  EXPECT_EQ(reason(scored).code(), absl::StatusCode::kInvalidArgument);
  SessionSpec undecided = Steps("", 5, {Next("tiny-full", 3)});
  EXPECT_EQ(reason(undecided).code(), absl::StatusCode::kInvalidArgument);
  SessionSpec too_long = Steps("tiny-lora", 5, {Next("tiny-full", 3)});
  too_long.next_steps[0].stop.max_tokens = model_->config().context;
  EXPECT_EQ(base::ReasonOf(reason(too_long)), base::Reason::kPromptTooLong);
  ExpectAtRest();
}

}  // namespace
}  // namespace ccoe::testing
