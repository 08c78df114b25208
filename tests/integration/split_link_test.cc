// A backbone's and an expert's engine with the link between them: the tokens of the unsplit model,
// and nothing left over whatever happens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/rpc/link_frames.h"
#include "tests/integration/answers.h"
#include "tests/integration/raw_peer.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

using internal::v1::LinkRequest;
using internal::v1::LinkResponse;
using runtime::ExpertKey;
using runtime::SessionSpec;

constexpr int kSplit = 2;  // of 4 layers
constexpr int64_t kPlenty = int64_t{16} << 20;
constexpr int kRowBytes = 64 * 4;
const std::vector<std::string> kPackages = {"llama_lora", "llama_full"};
const std::vector<std::string> kExperts = {"general", "tiny-lora", "tiny-full"};

class SplitLinkTest : public ::testing::Test {
 protected:
  void Start(int64_t credit_bytes) {
    expert_ = ExpertSide::Start(model_, {kPackages, kSplit, credit_bytes});
    backbone_ = BackboneSide::Start(model_, kSplit, Identity(), expert_->server->address());
    ASSERT_TRUE(backbone_->Connected());
  }
  rpc::LinkIdentity Identity() const {
    return IdentityOf(*model_, compute::CpuOptions().arithmetic, 0, kSplit);
  }
  std::vector<Answer> Unsplit(const std::vector<SessionSpec>& specs) const {
    return RunAll(*UnsplitEngine(model_, kPackages), specs);
  }
  void ExpectAtRest() const {
    EXPECT_TRUE(Eventually([this] { return backbone_->AtRest(); }));
    EXPECT_TRUE(Eventually([this] { return expert_->AtRest(); }));
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  std::unique_ptr<ExpertSide> expert_;
  std::unique_ptr<BackboneSide> backbone_;
};

TEST_F(SplitLinkTest, GivesTheUnsplitModelsTokensToTheLastBit) {
  Start(kPlenty);
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  EXPECT_EQ(RunAll(*backbone_->engine, specs), Unsplit(specs));
  ExpectAtRest();
}

// The backbone may end below an expert's attach depth when the expert's process has the layers
// between, and above it.
TEST_F(SplitLinkTest, TheSplitNeedNotBeTheAttachDepth) {
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  const std::vector<Answer> expected = Unsplit(specs);
  constexpr std::pair<int, int> kRanges[] = {{1, 1}, {1, 2}, {1, 3}};
  for (const auto& [expert_begin, backbone_end] : kRanges) {
    expert_ = ExpertSide::Start(model_, {kPackages, expert_begin, kPlenty});
    rpc::LinkIdentity identity = Identity();
    identity.layer_end = backbone_end;
    backbone_ = BackboneSide::Start(model_, backbone_end, identity, expert_->server->address());
    ASSERT_TRUE(backbone_->Connected());
    EXPECT_EQ(RunAll(*backbone_->engine, specs), expected) << expert_begin << " " << backbone_end;
    ExpectAtRest();
  }
}

// With room for few rows the backbone waits for credit again and again, and nothing is lost.
TEST_F(SplitLinkTest, LittleCreditOnlyDelays) {
  const std::vector<SessionSpec> specs = MixedSpecs(kExperts);
  const std::vector<Answer> expected = Unsplit(specs);
  for (int rows : {1, 5}) {
    Start(rows * kRowBytes);
    EXPECT_EQ(RunAll(*backbone_->engine, specs), expected) << rows << " rows";
    ExpectAtRest();
  }
}

TEST_F(SplitLinkTest, CancelFreesBothSides) {
  Start(kPlenty);
  std::vector<std::unique_ptr<Collector>> collectors;
  for (int i = 0; i < 8; ++i) {
    collectors.push_back(std::make_unique<Collector>());
    const auto id = backbone_->engine->Open(Spec(i % 2 == 0 ? "general" : "tiny-lora", 20, 480),
                                            collectors.back().get());
    ASSERT_TRUE(id.ok()) << id.status();
    // Some at once, some in the middle of the answer.
    if (i >= 4) collectors.back()->WaitForTokens(5);
    backbone_->engine->Cancel(*id, absl::CancelledError("enough"));
  }
  for (const auto& collector : collectors) {
    ASSERT_TRUE(collector->Wait());
    EXPECT_EQ(collector->status.code(), absl::StatusCode::kCancelled);
  }
  ExpectAtRest();
}

TEST_F(SplitLinkTest, ALostExpertFailsItsSessionsAndComesBack) {
  Start(kPlenty);
  Collector collector;
  ASSERT_TRUE(backbone_->engine->Open(Spec("tiny-lora", 20, 480), &collector).ok());
  collector.WaitForTokens(3);
  const std::string address = expert_->server->address();
  expert_.reset();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kUnavailable) << collector.status;
  EXPECT_EQ(base::ReasonOf(collector.status), base::Reason::kConnectionLost);
  EXPECT_TRUE(Eventually([&] { return backbone_->AtRest(); }));

  // Known, but without a replica.
  Collector refused;
  EXPECT_EQ(backbone_->engine->Open(Spec("tiny-lora", 20, 8), &refused).status().code(),
            absl::StatusCode::kUnavailable);

  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, kPlenty, address});
  ASSERT_TRUE(backbone_->Connected());
  const std::vector<SessionSpec> specs = {Spec("tiny-lora", 20, 8)};
  EXPECT_EQ(RunAll(*backbone_->engine, specs), Unsplit(specs));
  ExpectAtRest();
}

TEST_F(SplitLinkTest, PeersThatDoNotBelongTogetherAreRefused) {
  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, kPlenty});
  const auto refusal = [&](void (*change)(rpc::LinkIdentity&)) {
    rpc::LinkIdentity identity = Identity();
    change(identity);
    const auto backbone = BackboneSide::Start(model_, kSplit, identity, expert_->server->address());
    EXPECT_TRUE(Eventually([&] { return backbone->links[0]->GetState().tried; }));
    Collector collector;
    EXPECT_EQ(backbone->engine->Open(Spec("tiny-lora", 3, 3), &collector).status().code(),
              absl::StatusCode::kNotFound);
    return backbone->links[0]->GetState().status;
  };
  for (const absl::Status& status :
       {refusal([](rpc::LinkIdentity& i) { i.base_digest = "sha256:0"; }),
        refusal([](rpc::LinkIdentity& i) { i.arithmetic = "exact"; }),
        refusal([](rpc::LinkIdentity& i) { i.layer_end = kSplit - 1; })}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_EQ(base::ReasonOf(status), base::Reason::kModelMismatch) << status;
  }
}

TEST_F(SplitLinkTest, ADrainingExpertFinishesWhatRuns) {
  Start(kPlenty);
  Collector collector;
  ASSERT_TRUE(backbone_->engine->Open(Spec("general", 20, 60), &collector).ok());
  collector.WaitForTokens(1);
  expert_->engine->Drain(absl::ZeroDuration());
  EXPECT_TRUE(expert_->links->Drain(absl::Seconds(30)));
  ASSERT_TRUE(collector.Wait());
  EXPECT_TRUE(collector.finished.has_value()) << collector.status;
  EXPECT_TRUE(backbone_->links[0]->GetState().draining);
  Collector refused;
  if (backbone_->engine->Open(Spec("general", 20, 60), &refused).ok()) {
    ASSERT_TRUE(refused.Wait());
    EXPECT_EQ(refused.status.code(), absl::StatusCode::kUnavailable) << refused.status;
  }
}

LinkRequest Rows(int position, int count) {
  runtime::HiddenRows rows;
  rows.session = 1;
  rows.position = position;
  rows.tokens.assign(count, 7);
  rows.states.assign(static_cast<size_t>(count) * 64, 0.5f);
  return rpc::EncodeRows(0, {rows}, 64, 1)[0].message;
}

TEST_F(SplitLinkTest, MalformedFramesEndTheStreamAndFreeEverything) {
  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, 32 * kRowBytes});
  const auto end_after = [&](const LinkRequest& request) {
    RawPeer peer(expert_->server->address());
    peer.OpenSession(Identity());
    EXPECT_TRUE(Eventually([&] { return expert_->engine->Stats().kv_pages_used > 0; }));
    peer.Send(request);
    const grpc::StatusCode code = peer.End();
    EXPECT_TRUE(Eventually([&] { return expert_->AtRest(); }));
    return code;
  };
  LinkRequest request = Rows(0, 4);
  request.mutable_rows()->mutable_payload()->pop_back();
  EXPECT_EQ(end_after(request), grpc::INVALID_ARGUMENT);
  request = Rows(0, 4);
  request.mutable_rows()->set_expert(77);
  EXPECT_EQ(end_after(request), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(end_after(Rows(0, 33)), grpc::INVALID_ARGUMENT) << "more than the credit";
  EXPECT_EQ(end_after(LinkRequest()), grpc::INVALID_ARGUMENT);
  request.mutable_hello();
  EXPECT_EQ(end_after(request), grpc::INVALID_ARGUMENT) << "a second greeting";
}

TEST_F(SplitLinkTest, NothingGoesBeforeTheHandshake) {
  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, kPlenty});
  RawPeer peer(expert_->server->address());
  peer.Send(Rows(0, 1));
  EXPECT_EQ(peer.End(), grpc::INVALID_ARGUMENT);
}

TEST_F(SplitLinkTest, RowsOutOfTurnFailTheirSessionAlone) {
  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, kPlenty});
  RawPeer peer(expert_->server->address());
  peer.OpenSession(Identity());
  peer.Send(Rows(3, 1));  // the first row stands at 0
  const LinkResponse failed = peer.Read();
  ASSERT_TRUE(failed.has_failed()) << failed.DebugString();
  EXPECT_EQ(failed.failed().session(), 1u);
  EXPECT_TRUE(Eventually([&] { return expert_->AtRest(); }));
}

TEST_F(SplitLinkTest, ABackboneThatDiesFreesTheExpertsBlocks) {
  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, kPlenty});
  {
    RawPeer peer(expert_->server->address());
    peer.OpenSession(Identity());
    peer.Send(Rows(0, 4));
    peer.context().TryCancel();
    peer.End();
  }
  EXPECT_TRUE(Eventually([&] { return expert_->AtRest(); }));
}

}  // namespace
}  // namespace ccoe::testing
