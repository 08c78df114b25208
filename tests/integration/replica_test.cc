// A backbone's engine with several engines of one expert, without a wire: how sessions move between
// them, and what of them is kept for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/time/time.h"
#include "common/base/error.h"
#include "tests/integration/answers.h"

namespace ccoe::testing {
namespace {

constexpr int kSplit = 2;  // of 4 layers
constexpr size_t kRowBytes = 64 * sizeof(float);

class StallCounter final : public runtime::EngineObserver {
 public:
  void OnStep(const runtime::StepReport& /*report*/) override {}
  void OnStall(absl::Duration duration) override {
    total_ns_ += absl::ToInt64Nanoseconds(duration);
  }
  absl::Duration total() const { return absl::Nanoseconds(total_ns_.load()); }

 private:
  std::atomic<int64_t> total_ns_{0};
};

class ReplicaTest : public ::testing::Test {
 protected:
  ReplicaTest() {
    lower_.cpu.threads = 1;
    upper_ = whole_ = lower_;
    lower_.layer_end = kSplit;
    upper_.layer_begin = kSplit;
  }
  ~ReplicaTest() override { Stop(); }

  void Start(int replicas) {
    Stop();
    backbone_ = MakeEngine(model_, lower_);
    for (int i = 0; i < replicas; ++i) AddReplica();
  }
  void Stop() {
    for (const auto& link : links_) link->Cut();
    backbone_ = nullptr;
    experts_.clear();
    links_.clear();
  }
  void AddReplica(int credit_rows = 64) {
    experts_.push_back(MakeEngine(model_, upper_));
    links_.push_back(std::make_unique<LoopbackLink>(credit_rows));
    ASSERT_TRUE(
        links_.back()
            ->Connect(backbone_.get(), experts_.back().get(), experts_.back()->Experts().front())
            .ok());
  }
  std::vector<Answer> Undisturbed(const std::vector<runtime::SessionSpec>& specs) const {
    return RunAll(*MakeEngine(model_, whole_), specs);
  }
  void ExpectAtRest() {
    EXPECT_TRUE(backbone_->Drain(absl::Seconds(10)));
    const runtime::EngineStats stats = backbone_->Stats();
    EXPECT_EQ(stats.kv_pages_used, 0);
    EXPECT_EQ(stats.boundary_bytes_used, 0u);
    EXPECT_EQ(stats.sessions_waiting, 0);
    for (const auto& expert : experts_) {
      EXPECT_TRUE(expert->Drain(absl::Seconds(10)));
      EXPECT_EQ(expert->Stats().kv_pages_used, 0);
    }
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  EngineSetup lower_, upper_, whole_;
  std::vector<std::unique_ptr<LoopbackLink>> links_;
  std::vector<std::unique_ptr<runtime::Engine>> experts_;
  std::unique_ptr<runtime::Engine> backbone_;
};

TEST_F(ReplicaTest, WaitingForCreditIsAStall) {
  StallCounter stalls;
  lower_.observer = &stalls;
  for (const int credit_rows : {512, 2}) {
    Stop();
    EXPECT_EQ(stalls.total(), absl::ZeroDuration());
    backbone_ = MakeEngine(model_, lower_);
    AddReplica(credit_rows);
    RunAll(*backbone_, {Spec("general", 400, 4)});
  }
  EXPECT_GT(stalls.total(), absl::ZeroDuration());
  Stop();
}

TEST_F(ReplicaTest, SessionsGoOnAtAnotherReplica) {
  const std::vector<runtime::SessionSpec> specs = MixedSpecs({"general"});
  const runtime::SessionSpec marker = Spec("general", 5, 40);
  const std::vector<Answer> expected = Undisturbed(specs);
  Start(2);
  for (size_t token = 1; token < 12; ++token) {
    Collector held;
    held.HoldAfter(token);
    const auto collectors = OpenAll(*backbone_, specs);
    ASSERT_TRUE(backbone_->Open(marker, &held).ok());
    held.WaitForTokens(token);
    AddReplica();
    links_[links_.size() - 3]->Cut();
    held.Release();
    EXPECT_EQ(AnswersOf(collectors), expected) << token;
    EXPECT_EQ(AnswerOf(held), Undisturbed({marker})[0]) << token;
  }
  ExpectAtRest();
}

TEST_F(ReplicaTest, ScoresThatHaveComeAreNotAskedForAgain) {
  runtime::SessionSpec spec = Spec("general", 400, 0);
  spec.score_from = 1;
  const std::vector<Answer> expected = Undisturbed({spec});
  for (size_t token = 1; token < 10; ++token) {
    Start(2);
    Collector held;  // decodes, so that the score takes many steps
    held.HoldAfter(token);
    ASSERT_TRUE(backbone_->Open(Spec("general", 5, 40), &held).ok());
    const auto scored = OpenAll(*backbone_, {spec});
    held.WaitForTokens(token);
    links_[links_.size() - 1]->Cut();
    held.Release();
    EXPECT_EQ(AnswersOf(scored), expected) << token;
    AnswerOf(held);
    ExpectAtRest();
  }
}

TEST_F(ReplicaTest, ARetryableRefusalMovesASession) {
  Start(2);
  const runtime::SessionSpec spec = Spec("general", 30, 40);
  Collector collector;
  collector.HoldAfter(10);
  const auto id = backbone_->Open(spec, &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  collector.WaitForTokens(10);
  // Only the link that the session is at counts.
  for (const auto& link : links_) {
    link->OnFailed(*id, base::MakeError(base::Reason::kDraining, "stopping"));
  }
  collector.Release();
  EXPECT_EQ(AnswerOf(collector), Undisturbed({spec})[0]);
  ExpectAtRest();
}

TEST_F(ReplicaTest, AnotherRefusalFailsIt) {
  Start(2);
  Collector collector;
  collector.HoldAfter(10);
  const auto id = backbone_->Open(Spec("general", 30, 40), &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  collector.WaitForTokens(10);
  for (const auto& link : links_) link->OnFailed(*id, absl::InternalError("a fault"));
  collector.Release();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kInternal) << collector.status;
}

TEST_F(ReplicaTest, ALostReplicasSessionsWaitForRoomAtTheOther) {
  Start(1);
  std::vector<runtime::SessionSpec> specs(8, Spec("general", 40, 40));
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i].sampling.temperature = 1;
    specs[i].sampling.seed = i;
  }
  const auto collectors = OpenAll(*backbone_, specs);
  Collector held;
  held.HoldAfter(2);
  ASSERT_TRUE(backbone_->Open(Spec("general", 40, 3), &held).ok());
  held.WaitForTokens(2);
  upper_.kv_budget_bytes = size_t{1} << 17;  // room for few sessions at a time
  AddReplica();
  links_[0]->Cut();
  held.Release();
  AnswerOf(held);
  EXPECT_EQ(AnswersOf(collectors), Undisturbed(specs));
  ExpectAtRest();
}

TEST_F(ReplicaTest, APausedSessionMovesAndGoesOnWhenItMay) {
  Start(2);
  const runtime::SessionSpec spec = Spec("general", 30, 40);
  Collector collector;
  collector.HoldAfter(10);
  const auto id = backbone_->Open(spec, &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  collector.WaitForTokens(10);
  backbone_->Pause(*id);
  links_[0]->Cut();
  collector.Release();
  EXPECT_EQ(RunAll(*backbone_, {Spec("general", 3, 3)})[0].tokens.size(), 3u);
  backbone_->Resume(*id);
  EXPECT_EQ(AnswerOf(collector), Undisturbed({spec})[0]);
  ExpectAtRest();
}

TEST_F(ReplicaTest, BoundaryStatesAreReservedWithTheBlocks) {
  lower_.boundary_budget_bytes = 100 * kRowBytes;
  Start(1);
  Collector refused;
  EXPECT_EQ(base::ReasonOf(backbone_->Open(Spec("general", 60, 41), &refused).status()),
            base::Reason::kSessionTooLarge);
  Collector held;
  held.HoldAfter(1);
  ASSERT_TRUE(backbone_->Open(Spec("general", 30, 30), &held).ok());
  held.WaitForTokens(1);
  EXPECT_EQ(backbone_->Stats().boundary_bytes_used, 60 * kRowBytes);
  const auto others = OpenAll(*backbone_, std::vector(5, Spec("general", 40, 60)));
  held.Release();
  AnswerOf(held);
  AnswersOf(others);
  ExpectAtRest();
}

TEST_F(ReplicaTest, SessionsThatEndHereReserveNoBoundaryStates) {
  whole_.boundary_budget_bytes = 1;
  backbone_ = MakeEngine(model_, whole_);
  EXPECT_EQ(RunAll(*backbone_, {Spec("general", 40, 10)})[0].tokens.size(), 10u);
  EXPECT_EQ(backbone_->Stats().boundary_bytes_used, 0u);
}

}  // namespace
}  // namespace ccoe::testing
