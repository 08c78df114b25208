// Experts that come and go while a link stands: sessions find what they were opened for, to the
// last bit, and what nobody needs any more is freed.
#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "tests/integration/answers.h"
#include "tests/integration/raw_peer.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

using internal::v1::LinkRequest;
using internal::v1::LinkResponse;
using runtime::ExpertKey;
using runtime::SessionSpec;
using ::testing::ElementsAre;

constexpr int kSplit = 2;  // of 4 layers
const ExpertKey kLora{"tiny-lora", "1.0.0"};

class SplitChangeTest : public ::testing::Test {
 protected:
  void StartExpert(const std::vector<std::string>& packages, absl::Duration linger) {
    ExpertSetup setup;
    setup.packages = packages;
    setup.begin = kSplit;
    setup.linger = linger;
    expert_ = ExpertSide::Start(model_, setup);
  }
  void StartBackbone() {
    backbone_ = BackboneSide::Start(model_, kSplit, Identity(), expert_->server->address());
    ASSERT_TRUE(backbone_->Connected());
  }
  rpc::LinkIdentity Identity() const {
    return IdentityOf(*model_, compute::CpuOptions().arithmetic, 0, kSplit);
  }
  // What a router would be told.
  std::vector<std::string> Listed() const {
    std::vector<std::string> names;
    for (const auto& expert : backbone_->links[0]->GetState().experts) {
      names.push_back(expert.expert().name());
    }
    return names;
  }
  bool WaitUntilListed(const std::vector<std::string>& names) const {
    return Eventually([&] { return Listed() == names; });
  }
  // No session can be opened for it.
  bool WaitUntilUnknown() const {
    return Eventually([&] {
      const std::vector<runtime::ExpertInfo> experts = backbone_->engine->Experts();
      return std::none_of(experts.begin(), experts.end(),
                          [](const runtime::ExpertInfo& info) { return info.key == kLora; });
    });
  }
  size_t WeightBytes() const { return expert_->engine->Stats().weights_bytes; }
  std::vector<Answer> Unsplit(const std::vector<SessionSpec>& specs) const {
    return RunAll(*UnsplitEngine(model_, {"llama_lora", "llama_full"}), specs);
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  std::unique_ptr<ExpertSide> expert_;
  std::unique_ptr<BackboneSide> backbone_;
};

TEST_F(SplitChangeTest, AnExpertComesAndGoesWhileSessionsRun) {
  const std::vector<SessionSpec> specs = MixedSpecs({"general", "tiny-lora", "tiny-full"});
  const std::vector<Answer> expected = Unsplit(specs);
  StartExpert({}, absl::Milliseconds(20));
  StartBackbone();
  const size_t weights = WeightBytes();
  EXPECT_THAT(Listed(), ElementsAre("general"));
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(expert_->Push("llama_lora").ok());
    ASSERT_TRUE(expert_->Push("llama_full").ok());
    ASSERT_TRUE(WaitUntilListed({"general", "tiny-lora", "tiny-full"}));
    EXPECT_GT(WeightBytes(), weights);
    Collector running;
    running.HoldAfter(2);
    ASSERT_TRUE(backbone_->engine->Open(Spec("tiny-lora", 20, 60), &running).ok());
    running.WaitForTokens(2);
    const auto collectors = OpenAll(*backbone_->engine, specs);
    ASSERT_TRUE(expert_->links->Pop(kLora).ok());
    ASSERT_TRUE(expert_->links->Pop({"tiny-full", "1.0.0"}).ok());
    ASSERT_TRUE(WaitUntilListed({"general"}));
    running.Release();
    EXPECT_EQ(AnswersOf(collectors), expected) << round;
    EXPECT_EQ(AnswerOf(running), Unsplit({Spec("tiny-lora", 20, 60)})[0]);
    EXPECT_TRUE(WaitUntilUnknown());
    EXPECT_TRUE(Eventually([&] { return WeightBytes() == weights; }));
  }
  EXPECT_TRUE(Eventually([&] { return backbone_->AtRest() && expert_->AtRest(); }));
}

// What was decided by an older catalog still finds an expert that is leaving, over a link that was
// there before and over one that has come since.
TEST_F(SplitChangeTest, AnExpertThatIsLeavingTakesSessionsButIsNotListed) {
  StartExpert({"llama_lora"}, absl::InfiniteDuration());
  StartBackbone();
  const std::vector<SessionSpec> specs = MixedSpecs({"tiny-lora"});
  const std::vector<Answer> expected = Unsplit(specs);
  ASSERT_TRUE(expert_->links->Pop(kLora).ok());
  ASSERT_TRUE(WaitUntilListed({"general"}));
  EXPECT_EQ(RunAll(*backbone_->engine, specs), expected);
  EXPECT_EQ(expert_->Push("llama_lora").code(), absl::StatusCode::kAlreadyExists);
  StartBackbone();
  EXPECT_THAT(Listed(), ElementsAre("general"));
  EXPECT_EQ(RunAll(*backbone_->engine, specs), expected);
}

TEST_F(SplitChangeTest, ARunningSessionKeepsAnExpertThatIsRemoved) {
  StartExpert({"llama_lora"}, absl::ZeroDuration());
  StartBackbone();
  const SessionSpec spec = Spec("tiny-lora", 20, 200);
  Collector running;
  running.HoldAfter(2);
  ASSERT_TRUE(backbone_->engine->Open(spec, &running).ok());
  running.WaitForTokens(2);
  ASSERT_TRUE(expert_->links->Pop(kLora).ok());
  EXPECT_TRUE(WaitUntilUnknown());
  const size_t with = WeightBytes();
  EXPECT_EQ(expert_->Push("llama_lora").code(), absl::StatusCode::kAlreadyExists);
  running.Release();
  EXPECT_EQ(AnswerOf(running), Unsplit({spec})[0]);
  EXPECT_TRUE(Eventually([&] { return WeightBytes() < with; }));
}

// One of two processes takes a version away: it is the other's, and failover goes on.
TEST_F(SplitChangeTest, AnotherProcessKeepsItsReplica) {
  StartExpert({"llama_lora"}, absl::ZeroDuration());
  ExpertSetup setup;
  setup.packages = {"llama_lora"};
  setup.begin = kSplit;
  const auto other = ExpertSide::Start(model_, setup);
  StartBackbone();
  backbone_->AddLink(Identity(), other->server->address());
  ASSERT_TRUE(backbone_->Connected());
  const SessionSpec spec = Spec("tiny-lora", 20, 60);
  const Answer expected = Unsplit({spec})[0];
  const auto running = OpenAll(*backbone_->engine, std::vector(4, spec));  // at both
  Collector held;
  held.HoldAfter(2);
  ASSERT_TRUE(backbone_->engine->Open(spec, &held).ok());
  held.WaitForTokens(2);
  ASSERT_TRUE(expert_->links->Pop(kLora).ok());
  ASSERT_TRUE(WaitUntilListed({"general"}));
  held.Release();
  EXPECT_EQ(AnswerOf(held), expected);
  EXPECT_EQ(AnswersOf(running), std::vector<Answer>(4, expected));
  EXPECT_EQ(RunAll(*backbone_->engine, {spec, spec, spec}), std::vector<Answer>(3, expected));
  Collector moved;
  moved.HoldAfter(2);
  EXPECT_TRUE(Eventually([&] { return expert_->engine->Experts().size() == 1; }));
  ASSERT_TRUE(expert_->Push("llama_lora").ok());
  ASSERT_TRUE(WaitUntilListed({"general", "tiny-lora"}));
  ASSERT_TRUE(backbone_->engine->Open(spec, &moved).ok());
  moved.WaitForTokens(2);
  backbone_->links[other->links->sessions() > 0 ? 1 : 0]->Stop();
  moved.Release();
  EXPECT_EQ(AnswerOf(moved), expected);
}

TEST_F(SplitChangeTest, AnExpertThatABackboneCannotFeedIsRefused) {
  StartExpert({}, absl::ZeroDuration());
  StartBackbone();
  internal::v1::ExpertDescription deep;
  deep.mutable_expert()->set_name("deep");
  deep.set_attach_depth(3);
  EXPECT_EQ(base::ReasonOf(expert_->links->Add(deep, 0)), base::Reason::kModelMismatch);
  EXPECT_TRUE(expert_->links->CheckFed(deep, kSplit).ok());  // with the base layers between
  EXPECT_EQ(base::ReasonOf(expert_->links->Pop({"deep", ""})), base::Reason::kUnknownExpert);
  EXPECT_EQ(expert_->links->Pop({"general", "base"}).code(), absl::StatusCode::kInvalidArgument);
  expert_->engine->Drain(absl::ZeroDuration());
  expert_->links->Drain(absl::ZeroDuration());
  EXPECT_EQ(base::ReasonOf(expert_->links->CheckFed(deep, kSplit)), base::Reason::kDraining);
}

// It is told nothing, and keeps what it was told of in the beginning until its link ends.
TEST_F(SplitChangeTest, ABackboneOfTheFirstProtocolSeesNoChange) {
  StartExpert({"llama_lora"}, absl::ZeroDuration());
  {
    RawPeer peer(expert_->server->address());
    const internal::v1::HelloReply hello = peer.Greet(Identity(), 1);
    EXPECT_EQ(hello.protocol(), 1u);
    ASSERT_EQ(hello.experts_size(), 2);
    ASSERT_TRUE(expert_->Push("llama_full").ok());
    ASSERT_TRUE(expert_->links->Pop(kLora).ok());
    StartBackbone();  // of the second: at once
    EXPECT_THAT(Listed(), ElementsAre("general", "tiny-full"));
    EXPECT_TRUE(WaitUntilUnknown());
    peer.Open(1, hello.experts(1), 7);  // its next frame is the answer
    EXPECT_EQ(expert_->engine->Experts().size(), 3u);
    peer.context().TryCancel();
    peer.End();
  }
  EXPECT_TRUE(Eventually([&] { return expert_->engine->Experts().size() == 2; }));
  RawPeer peer(expert_->server->address());
  EXPECT_EQ(peer.Greet(Identity(), 1).experts_size(), 2);  // its next connection
}

TEST_F(SplitChangeTest, AReleaseOutOfTurnEndsTheStream) {
  StartExpert({"llama_lora"}, absl::ZeroDuration());
  LinkRequest release;
  const auto end_after = [&](const std::function<void(RawPeer&)>& act, uint32_t protocol) {
    RawPeer peer(expert_->server->address());
    peer.Greet(Identity(), protocol);
    act(peer);
    return peer.End();
  };
  const auto send = [&](RawPeer& peer) { peer.Send(release); };
  release.mutable_release()->set_expert(1);
  EXPECT_EQ(end_after(send, 2), grpc::INVALID_ARGUMENT) << "of one that is served";
  EXPECT_EQ(end_after(send, 1), grpc::INVALID_ARGUMENT);
  release.mutable_release()->set_expert(9);
  EXPECT_EQ(end_after(send, 2), grpc::INVALID_ARGUMENT) << "of none";
  release.mutable_release()->set_expert(1);
  const auto twice = [&](RawPeer& peer) {
    ASSERT_TRUE(expert_->links->Pop(kLora).ok());
    EXPECT_TRUE(peer.Read().has_leaving());
    EXPECT_TRUE(peer.Read().has_removed());
    EXPECT_EQ(expert_->engine->Experts().size(), 2u);
    peer.Send(release);
    EXPECT_TRUE(Eventually([&] { return expert_->engine->Experts().size() == 1; }));
    peer.Send(release);
  };
  EXPECT_EQ(end_after(twice, 2), grpc::INVALID_ARGUMENT);
}

// An expert process that says what it should not.
class ScriptedExpert final : public internal::v1::ExpertService::Service {
 public:
  ScriptedExpert(uint32_t protocol, const rpc::LinkIdentity& identity,
                 std::vector<LinkResponse> script)
      : script_(std::move(script)) {
    internal::v1::HelloReply& reply = *hello_.mutable_hello();
    reply.set_protocol(protocol);
    reply.set_base_digest(identity.base_digest);
    reply.set_arithmetic(identity.arithmetic);
    reply.set_layers(identity.layers);
    reply.set_hidden(identity.hidden);
    *reply.add_experts() = Offer(1);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  static internal::v1::LinkExpert Offer(int depth) {
    internal::v1::LinkExpert expert;
    expert.mutable_description()->mutable_expert()->set_name("scripted");
    expert.mutable_description()->set_attach_depth(depth);
    expert.set_entry_depth(depth);
    expert.set_credit_rows(8);
    expert.set_credit_bytes(8 * 64 * 4);
    return expert;
  }
  grpc::Status Link(grpc::ServerContext*,
                    grpc::ServerReaderWriter<LinkResponse, LinkRequest>* stream) override {
    LinkRequest request;
    stream->Read(&request);
    stream->Write(hello_);
    for (const LinkResponse& response : script_) stream->Write(response);
    while (stream->Read(&request)) {
    }
    return grpc::Status::OK;
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  LinkResponse hello_;
  const std::vector<LinkResponse> script_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(SplitChangeTest, ABackboneTakesNoChangesThatMakeNoSense) {
  const auto ends = [&](uint32_t protocol, std::vector<LinkResponse> script) {
    ScriptedExpert expert(protocol, Identity(), std::move(script));
    const auto backbone = BackboneSide::Start(model_, kSplit, Identity(), expert.address());
    absl::StatusCode code = absl::StatusCode::kUnavailable;
    EXPECT_TRUE(Eventually([&] {
      const auto state = backbone->links[0]->GetState();
      if (state.tried && !state.status.ok()) code = state.status.code();
      return state.tried && !state.status.ok();
    }));
    return code;
  };
  LinkResponse added, deep, leaving, removed, none;
  *added.mutable_added()->mutable_expert() = ScriptedExpert::Offer(2);
  *deep.mutable_added()->mutable_expert() = ScriptedExpert::Offer(3);
  leaving.mutable_leaving()->set_expert(0);
  removed.mutable_removed()->set_expert(0);
  none.mutable_leaving()->set_expert(1);
  LinkResponse empty;
  empty.mutable_added();
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(ends(1, {added}), kInvalid);
  EXPECT_EQ(ends(1, {leaving}), kInvalid);
  EXPECT_EQ(ends(2, {deep}), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ends(2, {empty}), kInvalid);
  EXPECT_EQ(ends(2, {removed}), kInvalid);
  EXPECT_EQ(ends(2, {none}), kInvalid);
  EXPECT_EQ(ends(2, {leaving, leaving}), kInvalid);
  EXPECT_EQ(ends(2, {leaving, removed, removed}), kInvalid);
}

}  // namespace
}  // namespace ccoe::testing
