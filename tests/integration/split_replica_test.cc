// Two processes of the same experts behind one backbone, one of which goes away: its sessions go on
// at the other, and their answers are those of an undisturbed run to the last bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/error.h"
#include "tests/integration/answers.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

constexpr int kSplit = 2;  // of 4 layers
constexpr int64_t kPlenty = int64_t{16} << 20;
constexpr int64_t kFewRows = 9 * 64 * 4;
const std::vector<std::string> kPackages = {"llama_lora", "llama_full"};

class SplitReplicaTest : public ::testing::Test {
 protected:
  void Start(int replicas, int64_t credit_bytes) {
    const rpc::LinkIdentity identity =
        IdentityOf(*model_, compute::CpuOptions().arithmetic, 0, kSplit);
    backbone_ = nullptr;
    experts_.clear();
    for (int i = 0; i < replicas; ++i) {
      experts_.push_back(ExpertSide::Start(model_, {kPackages, kSplit, credit_bytes}));
      const std::string& address = experts_.back()->server->address();
      if (i == 0) {
        backbone_ = BackboneSide::Start(model_, kSplit, identity, address);
      } else {
        backbone_->AddLink(identity, address);
      }
    }
    ASSERT_TRUE(backbone_->Connected());
  }
  // Index of an expert process that has sessions.
  size_t InUse() const {
    const auto used = [](const auto& expert) {
      return expert != nullptr && expert->links->sessions() > 0;
    };
    return std::find_if(experts_.begin(), experts_.end(), used) - experts_.begin();
  }
  bool AtRest() const {
    return Eventually([this] {
      return backbone_->AtRest() &&
             std::all_of(experts_.begin(), experts_.end(),
                         [](const auto& expert) { return expert == nullptr || expert->AtRest(); });
    });
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  std::vector<std::unique_ptr<ExpertSide>> experts_;
  std::unique_ptr<BackboneSide> backbone_;
};

TEST_F(SplitReplicaTest, SessionsOfALostReplicaGoOnToTheLastBit) {
  const std::vector<runtime::SessionSpec> specs = MixedSpecs({"general", "tiny-lora", "tiny-full"});
  const runtime::SessionSpec marker = Spec("general", 5, 30);
  const auto unsplit = UnsplitEngine(model_, kPackages);
  const std::vector<Answer> expected = RunAll(*unsplit, specs);
  const std::vector<Answer> marked = RunAll(*unsplit, {marker});
  for (const int64_t credit_bytes : {kPlenty, kFewRows}) {
    for (const size_t token : {1, 4, 11}) {
      for (const bool process_dies : {true, false}) {
        Start(2, credit_bytes);
        Collector held;
        held.HoldAfter(token);
        const auto collectors = OpenAll(*backbone_->engine, specs);
        ASSERT_TRUE(backbone_->engine->Open(marker, &held).ok());
        held.WaitForTokens(token);
        const size_t lost = InUse();
        ASSERT_LT(lost, experts_.size());
        if (process_dies) {
          experts_[lost] = nullptr;
        } else {
          backbone_->links[lost]->Stop();
        }
        held.Release();
        EXPECT_EQ(AnswersOf(collectors), expected) << credit_bytes << " bytes, token " << token;
        EXPECT_EQ(AnswerOf(held), marked[0]);
        EXPECT_TRUE(AtRest());
      }
    }
  }
}

TEST_F(SplitReplicaTest, ASessionMovesOnUntilNoReplicaIsLeft) {
  Start(3, kPlenty);
  const runtime::SessionSpec spec = Spec("tiny-lora", 20, 200);
  Collector collector;
  collector.HoldAfter(3);
  ASSERT_TRUE(backbone_->engine->Open(spec, &collector).ok());
  for (const size_t token : {3, 50, 100}) {
    collector.HoldAfter(token);
    collector.WaitForTokens(token);
    const size_t lost = InUse();
    ASSERT_LT(lost, experts_.size()) << token;
    experts_[lost] = nullptr;
  }
  collector.Release();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(base::ReasonOf(collector.status), base::Reason::kConnectionLost) << collector.status;
  const std::vector<Answer> whole = RunAll(*UnsplitEngine(model_, kPackages), {spec});
  ASSERT_GE(collector.tokens.size(), 100u);
  for (size_t i = 0; i < collector.tokens.size(); ++i) {
    EXPECT_EQ(collector.tokens[i].id, whole[0].tokens[i].first) << i;
    EXPECT_EQ(collector.tokens[i].logprob, whole[0].tokens[i].second) << i;
  }
  EXPECT_TRUE(AtRest());
}

TEST_F(SplitReplicaTest, ADrainingReplicaLeavesNewSessionsToTheOther) {
  Start(2, kPlenty);
  experts_[0]->engine->Drain(absl::ZeroDuration());
  const std::vector<runtime::SessionSpec> specs = MixedSpecs({"general", "tiny-lora"});
  EXPECT_EQ(RunAll(*backbone_->engine, specs), RunAll(*UnsplitEngine(model_, kPackages), specs));
  EXPECT_TRUE(AtRest());
}

}  // namespace
}  // namespace ccoe::testing
