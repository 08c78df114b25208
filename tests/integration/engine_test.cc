// The engine's manners: admission, cancel, pause, failure, and that every block comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "common/base/error.h"
#include "tests/integration/engine_harness.h"

namespace ccoe::testing {
namespace {

using runtime::FinishReason;
using runtime::SessionSpec;

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { setup_.cpu.threads = 1; }

  void Start() { engine_ = MakeEngine(model_, setup_); }

  static SessionSpec Spec(int prompt_tokens, int max_tokens) {
    SessionSpec spec;
    spec.expert = {"general", ""};
    for (int i = 0; i < prompt_tokens; ++i) spec.prompt.push_back(20 + i % 200);
    spec.stop.max_tokens = max_tokens;
    spec.stop.ignore_end_of_generation = true;
    return spec;
  }
  void ExpectAtRest() {
    EXPECT_TRUE(engine_->Drain(absl::Seconds(10)));
    const runtime::EngineStats stats = engine_->Stats();
    EXPECT_EQ(stats.sessions_running, 0);
    EXPECT_EQ(stats.sessions_waiting, 0);
    EXPECT_EQ(stats.kv_pages_used, 0);
  }

  std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  EngineSetup setup_;
  std::unique_ptr<runtime::Engine> engine_;
};

TEST_F(EngineTest, GeneratesToTheLimitAndCounts) {
  Start();
  Collector collector;
  ASSERT_TRUE(engine_->Open(Spec(10, 7), &collector).ok());
  ASSERT_TRUE(collector.Wait());
  ASSERT_TRUE(collector.finished.has_value()) << collector.status;
  EXPECT_EQ(collector.finished->reason, FinishReason::kLength);
  EXPECT_EQ(collector.finished->usage.prompt_tokens, 10);
  EXPECT_EQ(collector.finished->usage.completion_tokens, 7);
  EXPECT_EQ(collector.tokens.front().position, 10);
  ExpectAtRest();
}

TEST_F(EngineTest, NoTokensWantedIsAnAnswerToo) {
  Start();
  Collector collector;
  ASSERT_TRUE(engine_->Open(Spec(10, 0), &collector).ok());
  ASSERT_TRUE(collector.Wait());
  ASSERT_TRUE(collector.finished.has_value()) << collector.status;
  EXPECT_EQ(collector.finished->usage.completion_tokens, 0);
  ExpectAtRest();
}

TEST_F(EngineTest, ScoresAreTheLogProbabilitiesOfGeneration) {
  Start();
  SessionSpec spec = Spec(10, 6);
  spec.sampling.top_logprobs = 3;
  Collector generated;
  ASSERT_TRUE(engine_->Open(spec, &generated).ok());
  ASSERT_TRUE(generated.Wait());
  SessionSpec score = Spec(10, 0);
  for (int32_t id : generated.Ids()) score.prompt.push_back(id);
  score.score_from = 10;
  score.sampling.top_logprobs = 3;
  Collector scored;
  ASSERT_TRUE(engine_->Open(score, &scored).ok());
  ASSERT_TRUE(scored.Wait());
  ASSERT_TRUE(scored.finished.has_value()) << scored.status;
  ASSERT_EQ(scored.finished->scores.size(), 6u);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(scored.finished->scores[i].id, generated.tokens[i].id);
    EXPECT_EQ(scored.finished->scores[i].logprob, generated.tokens[i].logprob) << i;
    EXPECT_EQ(scored.finished->scores[i].top.size(), 3u);
    EXPECT_EQ(Likeliest(scored.finished->scores[i]), Likeliest(generated.tokens[i])) << i;
  }
  ExpectAtRest();
}

TEST_F(EngineTest, RefusesWhatCannotBe) {
  Start();
  Collector collector;
  const int context = model_->config().context;
  EXPECT_EQ(engine_->Open(Spec(0, 5), &collector).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine_->Open(Spec(context, 5), &collector).status().code(),
            absl::StatusCode::kInvalidArgument);
  SessionSpec unknown = Spec(3, 5);
  unknown.expert.name = "astrology";
  EXPECT_EQ(engine_->Open(unknown, &collector).status().code(), absl::StatusCode::kNotFound);
  ExpectAtRest();
}

TEST_F(EngineTest, CancelGivesAllBlocksBack) {
  Start();
  Collector collector;
  collector.HoldAfter(3);
  auto id = engine_->Open(Spec(10, 200), &collector);
  ASSERT_TRUE(id.ok());
  collector.WaitForTokens(3);
  engine_->Cancel(*id, absl::CancelledError("the client is gone"));
  collector.Release();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(collector.tokens.size(), 200u);
  ExpectAtRest();
}

TEST_F(EngineTest, APausedSessionStandsStillWhileOthersRun) {
  Start();
  Collector paused;
  paused.HoldAfter(2);
  auto id = engine_->Open(Spec(10, 200), &paused);
  ASSERT_TRUE(id.ok());
  paused.WaitForTokens(2);
  engine_->Pause(*id);
  paused.Release();
  Collector other;
  ASSERT_TRUE(engine_->Open(Spec(5, 20), &other).ok());
  ASSERT_TRUE(other.Wait());  // the pause took effect before it
  Collector last;
  ASSERT_TRUE(engine_->Open(Spec(5, 20), &last).ok());
  const size_t before = [&] {
    Collector fence;
    EXPECT_TRUE(engine_->Open(Spec(5, 1), &fence).ok());
    EXPECT_TRUE(fence.Wait());
    return engine_->Stats().sessions_running;
  }();
  EXPECT_GE(before, 1u);
  ASSERT_TRUE(last.Wait());
  engine_->Resume(*id);
  ASSERT_TRUE(paused.Wait());
  EXPECT_EQ(paused.tokens.size(), 200u);
  ExpectAtRest();
}

TEST_F(EngineTest, WaitsForBlocksInTheOrderOfComing) {
  setup_.kv_budget_bytes = size_t{1} << 19;
  Start();
  std::vector<std::unique_ptr<Collector>> collectors;
  for (int i = 0; i < 20; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(engine_->Open(Spec(30, 60), collectors.back().get()).ok());
  }
  for (const auto& collector : collectors) {
    ASSERT_TRUE(collector->Wait());
    EXPECT_TRUE(collector->finished.has_value()) << collector->status;
  }
  ExpectAtRest();
}

TEST_F(EngineTest, AFullQueueRefusesAtOnce) {
  setup_.max_sessions = 1;
  setup_.max_waiting = 2;
  Start();
  std::vector<std::unique_ptr<Collector>> collectors;
  int refused = 0;
  for (int i = 0; i < 10; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    auto id = engine_->Open(Spec(30, 150), collectors.back().get());
    if (id.ok()) continue;
    EXPECT_EQ(id.status().code(), absl::StatusCode::kResourceExhausted);
    collectors.pop_back();
    ++refused;
  }
  EXPECT_GE(refused, 6);
  for (const auto& collector : collectors) EXPECT_TRUE(collector->Wait());
  ExpectAtRest();
}

TEST_F(EngineTest, TheQueueTimeIsKept) {
  setup_.max_sessions = 1;
  Start();
  Collector first, second;
  first.HoldAfter(1);
  auto id = engine_->Open(Spec(10, 240), &first);
  ASSERT_TRUE(id.ok());
  first.WaitForTokens(1);
  engine_->Pause(*id);
  first.Release();
  SessionSpec spec = Spec(10, 5);
  spec.queue_deadline = absl::Now() + absl::Milliseconds(20);
  ASSERT_TRUE(engine_->Open(spec, &second).ok());
  ASSERT_TRUE(second.Wait());
  EXPECT_EQ(base::ReasonOf(second.status), base::Reason::kQueueTimeout) << second.status;
  EXPECT_TRUE(base::DetailsOf(second.status).retry_after.has_value());
  engine_->Cancel(*id, absl::CancelledError("done"));
  ASSERT_TRUE(first.Wait());
  ExpectAtRest();
}

TEST_F(EngineTest, StopSequencesEndTheAnswer) {
  Start();
  Collector plain;
  ASSERT_TRUE(engine_->Open(Spec(10, 40), &plain).ok());
  ASSERT_TRUE(plain.Wait());
  ASSERT_GT(plain.text.size(), 8u);
  SessionSpec spec = Spec(10, 40);
  // Three characters from the middle, at character boundaries.
  size_t at = plain.text.size() / 2;
  while ((static_cast<uint8_t>(plain.text[at]) & 0xC0) == 0x80) ++at;
  size_t end = at + 3;
  while (end < plain.text.size() && (static_cast<uint8_t>(plain.text[end]) & 0xC0) == 0x80) ++end;
  const std::string stop = plain.text.substr(at, end - at);
  spec.stop.stop_sequences = {stop};
  Collector stopped;
  ASSERT_TRUE(engine_->Open(spec, &stopped).ok());
  ASSERT_TRUE(stopped.Wait());
  ASSERT_TRUE(stopped.finished.has_value());
  EXPECT_EQ(stopped.finished->reason, FinishReason::kStopSequence);
  EXPECT_EQ(stopped.finished->matched_stop, stop);
  EXPECT_EQ(stopped.text, plain.text.substr(0, plain.text.find(stop)));
  ExpectAtRest();
}

TEST_F(EngineTest, AnExpertThatDiesFailsItsSessionsWithAReason) {
  setup_.layer_end = 2;
  LoopbackLink link(64);
  EngineSetup upper = setup_;
  upper.layer_begin = 2;
  upper.layer_end = 0;
  const auto expert = MakeEngine(model_, upper);
  Start();
  ASSERT_TRUE(link.Connect(engine_.get(), expert.get(), expert->Experts().front()).ok());
  Collector collector;
  ASSERT_TRUE(engine_->Open(Spec(10, 200), &collector).ok());
  collector.WaitForTokens(3);
  link.Cut();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(engine_->Open(Spec(10, 5), &collector).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(expert->Stats().kv_pages_used, 0);
  ExpectAtRest();
}

TEST_F(EngineTest, ExpertsBlocksAreReservedBeforeAnythingRuns) {
  setup_.layer_end = 2;
  LoopbackLink link(64);
  EngineSetup upper = setup_;
  upper.layer_begin = 2;
  upper.layer_end = 0;
  upper.kv_budget_bytes = size_t{1} << 17;  // room for few sessions at a time
  const auto expert = MakeEngine(model_, upper);
  Start();
  ASSERT_TRUE(link.Connect(engine_.get(), expert.get(), expert->Experts().front()).ok());
  std::vector<std::unique_ptr<Collector>> collectors;
  for (int i = 0; i < 12; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(engine_->Open(Spec(30, 30), collectors.back().get()).ok());
  }
  for (const auto& collector : collectors) {
    ASSERT_TRUE(collector->Wait());
    EXPECT_TRUE(collector->finished.has_value()) << collector->status;
  }
  ExpectAtRest();
  EXPECT_TRUE(expert->Drain(absl::Seconds(5)));
  EXPECT_EQ(expert->Stats().kv_pages_used, 0);
  link.Cut();
}

}  // namespace
}  // namespace ccoe::testing
