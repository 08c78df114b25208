// The gate's learned stage through the public services: the state that the prefill computes chooses
// the expert, and the answer is that of a request which names it.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "services/router/gate_confusion.h"
#include "services/router/local_backbone.h"
#include "services/router/route_probe.h"
#include "services/router/router.h"
#include "tests/integration/engine_harness.h"

namespace ccoe::testing {
namespace {

using router::LocalBackbone;

constexpr int kRoutingLayer = 2;  // the attach depth of both packages
constexpr char kClaimed[] = "red green blue, and again red green blue";
constexpr char kUnclaimed[] = "0123456789 9876543210 0123456789";

std::unique_ptr<LocalBackbone> Backbone(
    std::vector<std::shared_ptr<const model::ExpertPackage>> packages, int max_sessions = 256) {
  router::LocalBackboneOptions options;
  options.model = TinyModel("llama");
  options.experts = std::move(packages);
  options.cpu.threads = 1;
  options.kv_budget_bytes = size_t{16} << 20;
  options.max_sessions = max_sessions;
  return LocalBackbone::Create(std::move(options)).value();
}

std::vector<float> StateOf(router::Backbone& backbone, const std::string& text) {
  router::SessionRequest request;
  request.request_id = "test";
  request.input.prompt = text;
  request.routing_layer = kRoutingLayer;
  std::promise<absl::StatusOr<std::vector<float>>> state;
  const auto done = [&](absl::StatusOr<std::vector<float>> result) {
    state.set_value(std::move(result));
  };
  std::make_shared<router::RouteProbe>(backbone, done)->Start(request, absl::InfiniteFuture());
  return state.get_future().get().value();
}

// The tiny LoRA package with a row that tells kClaimed from kUnclaimed.
std::shared_ptr<const model::ExpertPackage> PackageWithRow() {
  const auto plain = Backbone({TinyPackage("llama_lora")});
  const std::vector<float> yes = StateOf(*plain, kClaimed), no = StateOf(*plain, kUnclaimed);
  double distance = 0, bias = 0;
  for (size_t i = 0; i < yes.size(); ++i) distance += (yes[i] - no[i]) * (yes[i] - no[i]);
  const double scale = 10 / distance;  // logits of 5 and -5
  std::vector<float> weights;
  for (size_t i = 0; i < yes.size(); ++i) {
    weights.push_back(static_cast<float>(scale * (yes[i] - no[i])));
    bias -= scale * (yes[i] - no[i]) * (yes[i] + no[i]) / 2;
  }
  return TinyPackage(
      "llama_lora",
      {{"\"row\": null",
        absl::StrCat("\"row\": {\"routing_layer\": ", kRoutingLayer, ", \"bias\": ", bias,
                     ", \"threshold\": 0.5, \"weights\": [", absl::StrJoin(weights, ", "), "]}")}});
}

class LearnedGateTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    backbone_ = Backbone({PackageWithRow(), TinyPackage("llama_full")}).release();
  }
  static void TearDownTestSuite() { delete backbone_; }

  void SetUp() override {
    router_ = std::make_unique<router::Router>(
        router::RouterOptions{backbone_, &metrics_, router::Limits(), "1.2.3"});
    rpc::ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.services = router_->services();
    server_ = rpc::Server::Start(options).value();
    stub_ = v1::GenerationService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    server_.reset();
    router_.reset();
    while (backbone_->Stats().kv_pages_used > 0) std::this_thread::yield();
    EXPECT_EQ(backbone_->Stats().boundary_bytes_used, 0u);
  }

  static v1::GenerateRequest Request(const std::string& text, const std::string& domain = "") {
    v1::GenerateRequest request;
    request.mutable_text()->set_text(text);
    if (!domain.empty()) request.set_domain(domain);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(8);
    request.mutable_stop()->set_ignore_end_of_generation(true);
    request.mutable_output()->set_token_ids(true);
    return request;
  }
  absl::StatusOr<v1::GenerateResponse> Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const absl::Status status = rpc::FromGrpcStatus(stub_->Generate(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  absl::StatusOr<v1::RouteResponse> Route(const v1::RouteRequest& request) {
    grpc::ClientContext context;
    v1::RouteResponse response;
    const absl::Status status = rpc::FromGrpcStatus(stub_->Route(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  static LocalBackbone* backbone_;
  telemetry::Metrics metrics_{{.service = "router", .version = "1.2.3", .arithmetic = "i8b32.v2"}};
  std::unique_ptr<router::Router> router_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

LocalBackbone* LearnedGateTest::backbone_ = nullptr;

TEST_F(LearnedGateTest, AnswersAsTheExpertThatItChooses) {
  const auto learned = Generate(Request(kClaimed));
  ASSERT_TRUE(learned.ok()) << learned.status();
  EXPECT_EQ(learned->started().route().stage(), v1::ROUTE_STAGE_LEARNED);
  EXPECT_EQ(learned->started().route().domain(), "tiny-lora");
  EXPECT_EQ(learned->started().route().version(), "1.0.0");
  EXPECT_NEAR(learned->started().route().confidence(), 1 / (1 + std::exp(-5.0)), 1e-3);
  const auto told = Generate(Request(kClaimed, "tiny-lora"));
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->started().route().stage(), v1::ROUTE_STAGE_EXPLICIT);
  EXPECT_THAT(learned->token_ids(), ::testing::ElementsAreArray(told->token_ids()));

  const auto nobody = Generate(Request(kUnclaimed));
  ASSERT_TRUE(nobody.ok()) << nobody.status();
  EXPECT_EQ(nobody->started().route().stage(), v1::ROUTE_STAGE_FALLBACK);
  EXPECT_EQ(nobody->started().route().domain(), "general");
  EXPECT_EQ(nobody->started().route().runner_up(), "tiny-lora");
  const auto general = Generate(Request(kUnclaimed, "general"));
  ASSERT_TRUE(general.ok()) << general.status();
  EXPECT_THAT(nobody->token_ids(), ::testing::ElementsAreArray(general->token_ids()));

  const auto rules = Generate(Request(absl::StrCat("tiny-full: ", kClaimed)));
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ(rules->started().route().stage(), v1::ROUTE_STAGE_RULES);
  EXPECT_EQ(rules->started().route().domain(), "tiny-full");
}

TEST_F(LearnedGateTest, AStreamBeginsWithTheDecision) {
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, Request(kClaimed));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  ASSERT_TRUE(event.has_started());
  EXPECT_EQ(event.started().route().stage(), v1::ROUTE_STAGE_LEARNED);
  EXPECT_EQ(event.started().route().expert(), "tiny-lora");
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(LearnedGateTest, RouteTellsWhatGenerateWouldDo) {
  v1::RouteRequest request;
  request.mutable_text()->set_text(kClaimed);
  const auto claimed = Route(request);
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  EXPECT_EQ(claimed->route().stage(), v1::ROUTE_STAGE_LEARNED);
  EXPECT_EQ(claimed->route().expert(), "tiny-lora");
  ASSERT_EQ(claimed->candidates_size(), 1);
  EXPECT_EQ(claimed->candidates(0).threshold(), 0.5);
  request.mutable_text()->set_text(kUnclaimed);
  request.mutable_routing()->set_on_unsure(v1::RoutingOptions::ON_UNSURE_FAIL);
  EXPECT_EQ(base::ReasonOf(Route(request).status()), base::Reason::kRouteUnsure);
  request.mutable_text()->set_text("");
  EXPECT_FALSE(Route(request).ok());
}

TEST_F(LearnedGateTest, AProbeThatWaitsEndsAtItsDeadline) {
  const auto busy = Backbone({TinyPackage("llama_lora")}, 1);
  router::SessionRequest request;
  request.request_id = "test";
  request.input.prompt = kClaimed;
  request.expert = {"general", ""};
  request.stop.max_tokens = 100;
  Collector running;
  running.HoldAfter(1);
  const auto id = busy->Open(request, &running);
  ASSERT_TRUE(id.ok()) << id.status();
  running.WaitForTokens(1);
  busy->Pause(*id);
  running.Release();  // the pause is the first that the engine sees
  request.expert = {};
  request.routing_layer = kRoutingLayer;
  std::promise<absl::Status> end;
  std::make_shared<router::RouteProbe>(*busy, [&](auto result) {
    end.set_value(result.status());
  })->Start(request, absl::Now() + absl::Milliseconds(50));
  EXPECT_EQ(base::ReasonOf(end.get_future().get()), base::Reason::kDeadlineExceeded);
  busy->Cancel(*id, absl::CancelledError("enough"));
  EXPECT_TRUE(running.Wait());
}

TEST_F(LearnedGateTest, ADrainTakesNoRoutesEither) {
  EXPECT_TRUE(router_->Drain(absl::Seconds(10)));
  v1::RouteRequest request;
  request.mutable_text()->set_text(kClaimed);
  EXPECT_EQ(base::ReasonOf(Route(request).status()), base::Reason::kDraining);
}

TEST_F(LearnedGateTest, AnExplanationTellsWhatEveryStageSaw) {
  v1::RouteRequest request;
  request.mutable_text()->set_text(absl::StrCat("tiny-full: ", kClaimed));
  EXPECT_EQ(Route(request)->stages_size(), 0);
  request.set_explain(true);
  const auto response = Route(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->route().stage(), v1::ROUTE_STAGE_RULES);
  ASSERT_EQ(response->stages_size(), 2);
  const v1::RouteStageReport& rules = response->stages(0);
  EXPECT_EQ(rules.stage(), v1::ROUTE_STAGE_RULES);
  EXPECT_EQ(rules.candidates_size(), 2);
  ASSERT_EQ(rules.rules_size(), 1);
  EXPECT_EQ(rules.rules(0).domain(), "tiny-full");
  EXPECT_EQ(rules.rules(0).rule(), "tiny-full");
  EXPECT_EQ(rules.rules(0).weight(), 1);
  const v1::RouteStageReport& learned = response->stages(1);
  EXPECT_EQ(learned.stage(), v1::ROUTE_STAGE_LEARNED);
  EXPECT_EQ(learned.candidates_size(), 1);
  EXPECT_GT(learned.state_time().nanos(), 0);
}

TEST_F(LearnedGateTest, AnUnsureRequestFailsIfItWantsTo) {
  v1::GenerateRequest request = Request(kUnclaimed);
  request.mutable_routing()->set_on_unsure(v1::RoutingOptions::ON_UNSURE_FAIL);
  const absl::Status status = Generate(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(base::ReasonOf(status), base::Reason::kRouteUnsure);
  request.mutable_text()->set_text(kClaimed);
  EXPECT_TRUE(Generate(request).ok());
  request.mutable_routing()->set_min_confidence(0.999);
  EXPECT_EQ(base::ReasonOf(Generate(request).status()), base::Reason::kRouteUnsure);
}

TEST_F(LearnedGateTest, TheStatesOfExamplePromptsAreComputed) {
  const auto state = router::StatesFrom(*backbone_, absl::InfiniteFuture())("hello", kRoutingLayer);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(static_cast<int>(state->size()), backbone_->GetCatalog()->model.hidden);
  EXPECT_EQ(router::StatesFrom(*backbone_, absl::InfinitePast())("hello", kRoutingLayer),
            std::nullopt);
}

}  // namespace
}  // namespace ccoe::testing
