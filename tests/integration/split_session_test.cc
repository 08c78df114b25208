// Router to backbone to expert, each over a real socket: what a router's RemoteBackbone gives is
// what a backbone in its own process gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <utility>

#include "common/base/error.h"
#include "services/backbone/backbone_node.h"
#include "services/router/local_backbone.h"
#include "services/router/remote_backbone.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

using base::Reason;
using router::SessionRequest;

constexpr int kSplit = 2;
const std::vector<std::string> kPackages = {"llama_lora"};

SessionRequest Request(const std::string& expert, std::string prompt, int max_tokens) {
  SessionRequest request;
  request.request_id = "test";
  request.input.prompt = std::move(prompt);
  request.expert = {expert, ""};
  request.sampling.top_logprobs = 2;
  request.sampling.temperature = 0.7f;
  request.sampling.seed = 3;
  request.stop.max_tokens = max_tokens;
  request.stop.ignore_end_of_generation = true;
  return request;
}

class SplitSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    expert_ = ExpertSide::Start(model_, {kPackages, kSplit, int64_t{1} << 20});
    StartBackbone();
    remote_ = std::make_unique<router::RemoteBackbone>(
        router::RemoteBackboneOptions{.address = AddressIn(backbone_->ReadyLine()),
                                      .min_backoff = absl::Milliseconds(10),
                                      .max_backoff = absl::Milliseconds(50)});
    ASSERT_TRUE(remote_->WaitUntilReached(absl::Seconds(30)));
  }

  void StartBackbone(const std::string& listen = "127.0.0.1:0") {
    backbone_ = StartBackboneNode(kSplit, {expert_->server->address()}, listen);
  }

  bool AtRest() {
    return Eventually([this] { return expert_->AtRest(); }) &&
           Eventually([this] { return remote_->Stats().kv_pages_used == 0; });
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  std::unique_ptr<ExpertSide> expert_;
  std::unique_ptr<backbone::BackboneNode> backbone_;
  std::unique_ptr<router::RemoteBackbone> remote_;
};

TEST_F(SplitSessionTest, GivesWhatALocalBackboneGives) {
  router::LocalBackboneOptions options;
  options.model = model_;
  options.experts = {TinyPackage("llama_lora")};
  options.cpu.threads = 1;
  options.kv_budget_bytes = size_t{16} << 20;
  auto local = router::LocalBackbone::Create(std::move(options));
  ASSERT_TRUE(local.ok()) << local.status();

  std::vector<SessionRequest> requests = {Request("general", "The quick brown fox", 20),
                                          Request("tiny-lora", "The quick brown fox", 20),
                                          Request("tiny-lora", "a b c", 0),
                                          Request("general", "Score this", 0)};
  requests[3].input.continuation = " and that";
  requests.push_back(Request("tiny-lora", "Score this", 0));
  requests[4].input.continuation = " and that";
  requests[4].sampling.top_logprobs = 4;
  for (const SessionRequest& request : requests) {
    Collector near;
    Collector far;
    ASSERT_TRUE((*local)->Open(request, &near).ok());
    const auto opened = remote_->Open(request, &far);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_TRUE(near.Wait());
    ASSERT_TRUE(far.Wait());
    ASSERT_TRUE(near.finished.has_value()) << near.status;
    ASSERT_TRUE(far.finished.has_value()) << far.status;
    EXPECT_EQ(far.Ids(), near.Ids());
    EXPECT_EQ(far.text, near.text);
    EXPECT_EQ(far.finished->reason, near.finished->reason);
    EXPECT_EQ(far.finished->usage.prompt_tokens, near.finished->usage.prompt_tokens);
    ASSERT_EQ(far.finished->scores.size(), near.finished->scores.size());
    for (size_t i = 0; i < far.finished->scores.size(); ++i) {
      EXPECT_EQ(far.finished->scores[i].logprob, near.finished->scores[i].logprob);
      EXPECT_EQ(Likeliest(far.finished->scores[i]), Likeliest(near.finished->scores[i]));
      EXPECT_EQ(static_cast<int>(far.finished->scores[i].top.size()),
                std::max(0, request.sampling.top_logprobs));
    }
  }
  EXPECT_EQ(remote_->TokenBytes(20), (*local)->TokenBytes(20));
  EXPECT_TRUE(AtRest());
}

TEST_F(SplitSessionTest, TheStateComesBeforeTheDecision) {
  Collector told;
  ASSERT_TRUE(remote_->Open(Request("tiny-lora", "The quick brown fox", 20), &told).ok());
  ASSERT_TRUE(told.Wait());
  Collector undecided;
  std::promise<runtime::SessionId> id;
  undecided.on_route_state = [&](absl::Span<const float>) {
    EXPECT_FALSE(undecided.admitted);
    remote_->Decide(id.get_future().get(), {"tiny-lora", ""});
  };
  SessionRequest request = Request("", "The quick brown fox", 20);
  request.routing_layer = 1;
  const auto opened = remote_->Open(request, &undecided);
  ASSERT_TRUE(opened.ok()) << opened.status();
  id.set_value(*opened);
  ASSERT_TRUE(undecided.Wait());
  ASSERT_TRUE(undecided.finished.has_value()) << undecided.status;
  EXPECT_EQ(undecided.pooled.size(), 64u);
  EXPECT_EQ(undecided.Ids(), told.Ids());
  EXPECT_EQ(undecided.text, told.text);

  Collector deep;
  request.routing_layer = kSplit + 1;
  ASSERT_TRUE(remote_->Open(request, &deep).ok());
  ASSERT_TRUE(deep.Wait());
  EXPECT_EQ(deep.status.code(), absl::StatusCode::kInvalidArgument) << deep.status;
  EXPECT_TRUE(AtRest());
}

TEST_F(SplitSessionTest, ErrorsKeepTheirReasonOnTheWay) {
  Collector unknown;
  ASSERT_TRUE(remote_->Open(Request("nobody", "hello", 5), &unknown).ok());
  ASSERT_TRUE(unknown.Wait());
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kNotFound) << unknown.status;

  SessionRequest request = Request("general", "one two three four", 5);
  request.input.max_prompt_tokens = 2;
  Collector too_long;
  ASSERT_TRUE(remote_->Open(request, &too_long).ok());
  ASSERT_TRUE(too_long.Wait());
  EXPECT_EQ(base::ReasonOf(too_long.status), Reason::kPromptTooLong) << too_long.status;
  EXPECT_FALSE(base::DetailsOf(too_long.status).metadata.empty());
  EXPECT_TRUE(AtRest());
}

TEST_F(SplitSessionTest, AVeryLongPromptIsCountedByTheBackbone) {
  SessionRequest request = Request("general", "", 5);
  request.input.prompt = std::vector<int32_t>(5 << 20, 5);  // larger than a server's default limit
  Collector too_long;
  ASSERT_TRUE(remote_->Open(request, &too_long).ok());
  ASSERT_TRUE(too_long.Wait());
  EXPECT_EQ(base::ReasonOf(too_long.status), Reason::kPromptTooLong) << too_long.status;
  EXPECT_EQ(base::DetailsOf(too_long.status).metadata.size(), 2u);
  EXPECT_TRUE(AtRest());
}

TEST_F(SplitSessionTest, CancelFreesEveryHop) {
  for (int i = 0; i < 4; ++i) {
    Collector collector;
    const auto id = remote_->Open(Request("general", "hello", 400), &collector);
    ASSERT_TRUE(id.ok()) << id.status();
    if (i > 0) collector.WaitForTokens(i);
    remote_->Cancel(*id, absl::CancelledError("enough"));
    ASSERT_TRUE(collector.Wait());
    EXPECT_EQ(collector.status.code(), absl::StatusCode::kCancelled) << collector.status;
  }
  EXPECT_TRUE(AtRest());
}

TEST_F(SplitSessionTest, APausedSessionGoesOnWhereItStopped) {
  Collector undisturbed;
  ASSERT_TRUE(remote_->Open(Request("general", "hello", 100), &undisturbed).ok());
  ASSERT_TRUE(undisturbed.Wait());
  Collector collector;
  const auto id = remote_->Open(Request("general", "hello", 100), &collector);
  ASSERT_TRUE(id.ok()) << id.status();
  collector.WaitForTokens(2);
  remote_->Pause(*id);
  remote_->Resume(*id);
  ASSERT_TRUE(collector.Wait());
  ASSERT_TRUE(collector.finished.has_value()) << collector.status;
  EXPECT_EQ(collector.Ids(), undisturbed.Ids());
}

TEST_F(SplitSessionTest, TheCatalogFollowsTheExperts) {
  const auto healthy = [this](const std::string& name) {
    for (const router::CatalogEntry& entry : remote_->GetCatalog()->experts) {
      if (entry.info.key.name == name) return entry.info.healthy;
    }
    return false;
  };
  EXPECT_EQ(remote_->GetCatalog()->model.digest, model_->digest());
  EXPECT_TRUE(healthy("general"));
  EXPECT_TRUE(healthy("tiny-lora"));
  const std::string address = expert_->server->address();
  expert_.reset();
  EXPECT_TRUE(Eventually([&] { return !healthy("tiny-lora"); }));
  expert_ = ExpertSide::Start(model_, {kPackages, kSplit, int64_t{1} << 20, address});
  EXPECT_TRUE(Eventually([&] { return healthy("tiny-lora"); }));
}

TEST_F(SplitSessionTest, ALostBackboneFailsItsSessionsAndComesBack) {
  Collector collector;
  ASSERT_TRUE(remote_->Open(Request("general", "hello", 400), &collector).ok());
  collector.WaitForTokens(1);
  const std::string address = AddressIn(backbone_->ReadyLine());
  backbone_.reset();
  ASSERT_TRUE(collector.Wait());
  EXPECT_EQ(collector.status.code(), absl::StatusCode::kUnavailable) << collector.status;
  EXPECT_TRUE(Eventually([this] { return !remote_->Health().ok(); }));
  StartBackbone(address);
  EXPECT_TRUE(Eventually([this] { return remote_->Health().ok(); }));
  Collector again;
  const auto id = remote_->Open(Request("general", "hello", 4), &again);
  ASSERT_TRUE(id.ok()) << id.status();
  ASSERT_TRUE(again.Wait());
  EXPECT_TRUE(again.finished.has_value()) << again.status;
  EXPECT_TRUE(AtRest());
}

}  // namespace
}  // namespace ccoe::testing
