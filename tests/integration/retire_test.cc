// Replicas that are taken from the sessions to come: those that are open keep what they were opened
// with, and the replica hears when the last of them has ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/integration/answers.h"
#include "tests/integration/expert_engines.h"

namespace ccoe::testing {
namespace {

using runtime::SessionSpec;

constexpr int kSplit = 2;  // of 4 layers

class RetireTest : public ExpertEnginesTest {
 protected:
  RetireTest() : ExpertEnginesTest({TinyPackage("llama_lora")}) {}

  // `general` and the LoRA expert, each over so many links.
  void Start(int replicas) { Split(kSplit, kSplit, {kSplit, kSplit}, replicas); }
  std::vector<Answer> Unsplit(const std::vector<SessionSpec>& specs) const {
    return RunAll(*WithPackages(EngineSetup()), specs);
  }
  absl::StatusCode CodeOfAnother() {
    Collector refused;
    return engine_->Open(Spec("tiny-lora", 3, 3), &refused).status().code();
  }
  static void WaitUntilForgotten(const LoopbackLink& link) {
    while (!link.forgotten()) std::this_thread::yield();
  }
};

TEST_F(RetireTest, OpenSessionsComeToAReplicaThatWasRetired) {
  setup_.max_sessions = 1;
  Start(1);
  const std::vector<SessionSpec> specs = {Spec("tiny-lora", 20, 30), Spec("tiny-lora", 33, 12)};
  Collector running, waiting, undecided;
  running.HoldAfter(3);
  ASSERT_TRUE(engine_->Open(specs[0], &running).ok());
  running.WaitForTokens(3);
  ASSERT_TRUE(engine_->Open(specs[1], &waiting).ok());
  SessionSpec open = specs[1];
  open.expert = {};
  open.routing_layer = 1;
  open.route_tokens = {{1, 20}};
  std::promise<runtime::SessionId> id;
  undecided.on_route_state = [&](absl::Span<const float>) {
    engine_->Decide(id.get_future().get(), {"tiny-lora", "1.0.0"});
  };
  id.set_value(engine_->Open(open, &undecided).value());

  engine_->RetireReplica(links_[1].get());
  EXPECT_EQ(CodeOfAnother(), absl::StatusCode::kNotFound);
  running.Release();
  const std::vector<Answer> expected = Unsplit(specs);
  EXPECT_EQ(AnswerOf(running), expected[0]);
  EXPECT_EQ(AnswerOf(waiting), expected[1]);
  EXPECT_EQ(AnswerOf(undecided), expected[1]);
  WaitUntilForgotten(*links_[1]);
  EXPECT_FALSE(links_[0]->forgotten());
  ExpectAtRest();
}

TEST_F(RetireTest, AFurtherStepComesToAReplicaThatWasRetired) {
  Start(1);
  SessionSpec spec = Spec("general", 20, 10);
  spec.next_steps.emplace_back();
  spec.next_steps[0].expert = {"tiny-lora", "1.0.0"};
  spec.next_steps[0].tokens = {30, 31, 32};
  spec.next_steps[0].sampling = spec.sampling;
  spec.next_steps[0].stop = spec.stop;
  Collector collector;
  collector.HoldAfter(3);
  ASSERT_TRUE(engine_->Open(spec, &collector).ok());
  collector.WaitForTokens(3);
  engine_->RetireReplica(links_[1].get());
  EXPECT_EQ(CodeOfAnother(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(links_[1]->forgotten());
  collector.Release();
  EXPECT_EQ(AnswerOf(collector), Unsplit({spec})[0]);
  WaitUntilForgotten(*links_[1]);
  ExpectAtRest();
}

TEST_F(RetireTest, AnotherReplicaHasTheSessionsToCome) {
  Start(2);
  LoopbackLink& retired = *links_[2];  // the first that is picked
  const SessionSpec spec = Spec("tiny-lora", 20, 30);
  const std::vector<Answer> expected = Unsplit({spec});
  Collector running;
  running.HoldAfter(3);
  ASSERT_TRUE(engine_->Open(spec, &running).ok());
  running.WaitForTokens(3);
  engine_->RetireReplica(&retired);
  const auto others = OpenAll(*engine_, {spec, spec, spec});
  EXPECT_FALSE(retired.forgotten());
  running.Release();
  EXPECT_EQ(AnswerOf(running), expected[0]);
  WaitUntilForgotten(retired);
  for (const Answer& answer : AnswersOf(others)) EXPECT_EQ(answer, expected[0]);
  ExpectAtRest();
}

TEST_F(RetireTest, ARetiredReplicaThatIsLostIsNotToldAgain) {
  Start(1);
  Collector running;
  running.HoldAfter(3);
  ASSERT_TRUE(engine_->Open(Spec("tiny-lora", 20, 30), &running).ok());
  running.WaitForTokens(3);
  engine_->RetireReplica(links_[1].get());
  links_[1]->Cut();
  running.Release();
  ASSERT_TRUE(running.Wait());
  EXPECT_EQ(running.status.code(), absl::StatusCode::kUnavailable) << running.status;
  EXPECT_EQ(RunAll(*engine_, {Spec("general", 5, 5)}), Unsplit({Spec("general", 5, 5)}));
  EXPECT_FALSE(links_[1]->forgotten());
  ExpectAtRest();
}

// Another package of the same name and version may come once the first has no replica any more.
TEST_F(RetireTest, AVersionMayComeBackWithOtherContents) {
  Start(1);
  runtime::ExpertInfo other = upper_->Experts()[1];
  other.package_digest = "sha256:0";
  LoopbackLink link(7);
  EXPECT_EQ(link.Connect(engine_.get(), upper_.get(), other).code(),
            absl::StatusCode::kAlreadyExists);
  links_[1]->Cut();
  EXPECT_TRUE(link.Connect(engine_.get(), upper_.get(), other).ok());
  engine_->RemoveReplica(&link, absl::UnavailableError("the end"));
  ExpectAtRest();
}

}  // namespace
}  // namespace ccoe::testing
