// Sessions whose expert is chosen by what the lower layers made of the prompt: the same answers as
// if it had been known from the beginning, and nothing computed twice or left over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "tests/integration/answers.h"
#include "tests/integration/expert_engines.h"

namespace ccoe::testing {
namespace {

using runtime::ExpertKey;
using runtime::SessionSpec;

const std::vector<std::string> kExperts = {"general", "tiny-lora", "tiny-full"};

class UndecidedTest : public ExpertEnginesTest {
 protected:
  UndecidedTest() : ExpertEnginesTest({TinyPackage("llama_lora"), TinyPackage("llama_full")}) {}

  SessionSpec Undecided(SessionSpec spec) const {
    spec.expert = {};
    spec.routing_layer = routing_layer_;
    const int prompt = spec.score_from.value_or(static_cast<int>(spec.prompt.size()));
    spec.route_tokens = {{0, 1}};
    if (prompt > 2) spec.route_tokens = {{1, 2}, {2, std::max(3, prompt - 4)}};
    return spec;
  }
  // Opens all and decides for the experts that they name, as soon as their states are told.
  std::vector<std::unique_ptr<Collector>> OpenAndDecide(const std::vector<SessionSpec>& specs) {
    std::vector<std::unique_ptr<Collector>> collectors;
    for (const SessionSpec& spec : specs) {
      collectors.push_back(std::make_unique<Collector>());
      Collector& collector = *collectors.back();
      // Id and state come in any order.
      auto id = std::make_shared<std::promise<runtime::SessionId>>();
      collector.on_route_state = [this, id, expert = spec.expert](absl::Span<const float>) {
        engine_->Decide(id->get_future().get(), expert);
      };
      const auto opened = engine_->Open(Undecided(spec), &collector);
      EXPECT_TRUE(opened.ok()) << opened.status();
      id->set_value(opened.value_or(0));
    }
    return collectors;
  }
  // Opens an undecided session; returns once its state is told.
  absl::StatusOr<runtime::SessionId> OpenUntilTold(const SessionSpec& spec, Collector* collector) {
    auto told = std::make_shared<std::promise<void>>();
    collector->on_route_state = [told](absl::Span<const float>) { told->set_value(); };
    const auto id = engine_->Open(spec, collector);
    if (id.ok()) told->get_future().wait();
    return id;
  }

  int routing_layer_ = 1;
};

TEST_F(UndecidedTest, AnswersAsIfItHadBeenDecidedFromTheBeginning) {
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  const std::vector<Answer> expected = RunAll(*WithPackages(setup_), specs);
  std::vector<std::vector<float>> pooled;
  for (int step_rows : {256, 1, 17}) {
    setup_.max_step_rows = step_rows;
    engine_ = WithPackages(setup_);
    const auto collectors = OpenAndDecide(specs);
    EXPECT_EQ(AnswersOf(collectors), expected) << step_rows;
    ExpectAtRest();
    for (size_t i = 0; i < collectors.size(); ++i) {
      EXPECT_EQ(collectors[i]->pooled.size(), 64u);
      if (step_rows == 256) pooled.push_back(collectors[i]->pooled);
      EXPECT_EQ(collectors[i]->pooled, pooled[i]) << "cut into steps of " << step_rows;
    }
  }
}

// Those that attach above it begin anew.
TEST_F(UndecidedTest, TheRoutingLayerMayLieBeyondAnAttachDepth) {
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  const std::vector<Answer> expected = RunAll(*WithPackages(setup_), specs);
  routing_layer_ = 3;
  engine_ = WithPackages(setup_);
  EXPECT_EQ(AnswersOf(OpenAndDecide(specs)), expected);
  ExpectAtRest();
}

// A backbone with every layer answers for `general` itself; what is served elsewhere gets its rows
// from the stem, whether it was there when the session began or not.
TEST_F(UndecidedTest, ABackboneMayHaveAllLayers) {
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  const std::vector<Answer> expected = RunAll(*WithPackages(setup_), specs);
  Split(4, 1, {0, 1, 2});
  EXPECT_EQ(AnswersOf(OpenAndDecide(specs)), expected);
  ExpectAtRest();
}

TEST_F(UndecidedTest, TheFirstExpertElsewhereMayComeAfterTheSession) {
  const SessionSpec spec = Spec("tiny-lora", 40, 12);
  const std::vector<Answer> expected = RunAll(*WithPackages(setup_), {spec});
  Split(4, 1, {});
  Collector collector;
  const auto id = OpenUntilTold(Undecided(spec), &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  Connect(1, 2);
  engine_->Decide(*id, {"tiny-lora", ""});
  EXPECT_EQ(AnswerOf(collector), expected[0]);
  ExpectAtRest();
}

// The time to wait for a replica begins with the decision.
TEST_F(UndecidedTest, TheQueueTimeDoesNotCountWhatRanBefore) {
  Split(2, 2, {2, 2, 2});
  SessionSpec spec = Undecided(Spec("", 100, 5));
  spec.queue_deadline = absl::Now() + absl::Milliseconds(200);
  Collector collector;
  const auto id = OpenUntilTold(spec, &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  while (absl::Now() < spec.queue_deadline) std::this_thread::yield();
  engine_->Decide(*id, {"general", ""});
  EXPECT_EQ(AnswerOf(collector).tokens.size(), 5u);
  ExpectAtRest();
}

TEST_F(UndecidedTest, ASplitModelAnswersAsTheUnsplit) {
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  const std::vector<Answer> expected = RunAll(*WithPackages(setup_), specs);
  setup_.max_step_rows = 33;
  // All enter where the stem ends, or some deeper, so that the backbone goes on from the stem.
  const std::vector<std::vector<int>> entries = {{2, 2, 2}, {1, 2, 2}, {1, 1, 2}};
  for (const std::vector<int>& entry : entries) {
    const int begin = *std::min_element(entry.begin(), entry.end());
    SCOPED_TRACE(absl::StrCat("entries ", absl::StrJoin(entry, " ")));
    Split(2, begin, entry);
    EXPECT_EQ(AnswersOf(OpenAndDecide(specs)), expected);
    ExpectAtRest();
  }
}

TEST_F(UndecidedTest, AnExpertThatComesMeanwhileMayAttachAboveTheStem) {
  const SessionSpec spec = Spec("tiny-lora", 40, 12);
  const std::vector<Answer> expected = RunAll(*WithPackages(setup_), {spec});
  Split(2, 1, {0, 0, 2});
  Collector collector;
  const auto id = OpenUntilTold(Undecided(spec), &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  Connect(1, 1);
  engine_->Decide(*id, {"tiny-lora", ""});
  EXPECT_EQ(AnswerOf(collector), expected[0]);
  ExpectAtRest();
}

TEST_F(UndecidedTest, TheStateIsTheMeanOfNormalisedStates) {
  engine_ = WithPackages(setup_);
  SessionSpec spec = Undecided(Spec("general", 20, 0));
  spec.route_tokens = {{4, 5}};
  Collector one;
  std::promise<runtime::SessionId> id;
  one.on_route_state = [&](absl::Span<const float>) {
    engine_->Decide(id.get_future().get(), {"general", ""});
  };
  id.set_value(engine_->Open(spec, &one).value());
  ASSERT_TRUE(one.Wait());
  ASSERT_EQ(one.pooled.size(), 64u);
  double squares = 0;
  for (float value : one.pooled) squares += double{value} * value;
  EXPECT_NEAR(squares / 64, 1, 1e-2);  // the norm's epsilon is not nothing beside tiny states
}

TEST_F(UndecidedTest, AWrongDecisionEndsTheSession) {
  engine_ = WithPackages(setup_);
  const auto decide = [&](const ExpertKey& expert) {
    Collector collector;
    std::promise<runtime::SessionId> id;
    collector.on_route_state = [&](absl::Span<const float>) {
      engine_->Decide(id.get_future().get(), expert);
    };
    id.set_value(engine_->Open(Undecided(Spec("", 30, 5)), &collector).value());
    EXPECT_TRUE(collector.Wait());
    EXPECT_FALSE(collector.admitted);
    return collector.status;
  };
  EXPECT_EQ(base::ReasonOf(decide({"nobody", ""})), base::Reason::kUnknownExpert);
  EXPECT_EQ(base::ReasonOf(decide({"tiny-lora", "7"})), base::Reason::kUnknownExpert);
  ExpectAtRest();
}

TEST_F(UndecidedTest, ACancelledOneGivesEverythingBack) {
  Split(2, 2, {2, 2, 2});
  Collector collector;
  const auto id = OpenUntilTold(Undecided(Spec("", 100, 20)), &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  engine_->Cancel(*id, absl::CancelledError("enough"));
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kCancelled);
  ExpectAtRest();
}

TEST_F(UndecidedTest, WhatIsNoRoutingLayerIsRefused) {
  engine_ = WithPackages(setup_);
  SessionSpec spec = Undecided(Spec("", 10, 2));
  Collector collector;
  spec.routing_layer = 4;  // nothing is left to decide for
  EXPECT_EQ(engine_->Open(spec, &collector).status().code(), absl::StatusCode::kInvalidArgument);
  spec.routing_layer = 0;
  EXPECT_EQ(engine_->Open(spec, &collector).status().code(), absl::StatusCode::kInvalidArgument);
  spec.routing_layer = 2;
  for (const std::vector<model::TokenRange>& tokens : std::vector<std::vector<model::TokenRange>>{
           {}, {{3, 11}}, {{-1, 2}}, {{2, 2}}, {{4, 5}, {1, 2}}}) {
    spec.route_tokens = tokens;
    EXPECT_EQ(engine_->Open(spec, &collector).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace ccoe::testing
