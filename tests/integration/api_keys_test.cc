// The public services where clients have to show a key.
#include "services/router/api_keys.h"

#include <grpcpp/create_channel.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/key_ring.h"
#include "services/router/local_backbone.h"
#include "services/router/router.h"

namespace ccoe::router {
namespace {

using base::Reason;
using testing::HasSubstr;

class ApiKeysTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    LocalBackboneOptions options;
    options.model =
        model::Model::Load(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/llama")).value();
    options.cpu.arithmetic = compute::Arithmetic::kExact;
    options.cpu.threads = 1;
    options.kv_budget_bytes = size_t{16} << 20;
    backbone_ = LocalBackbone::Create(std::move(options)).value().release();
  }
  static void TearDownTestSuite() { delete backbone_; }

  void Start(int max_concurrent_requests, int tokens_per_minute) {
    internal::v1::ApiKeys keys;
    internal::v1::ApiKey& key = *keys.add_keys();
    key.set_name("team-a");
    key.set_sha256(HashApiKey("the-key"));
    key.set_max_concurrent_requests(max_concurrent_requests);
    key.set_tokens_per_minute(tokens_per_minute);
    const std::string path = absl::StrCat(testing::TempDir(), "/api_keys_test.json");
    ASSERT_TRUE(SaveApiKeys(keys, path).ok());
    keys_ = KeyRing::Open(path).value();
    router_ = std::make_unique<Router>(
        RouterOptions{backbone_, &metrics_, Limits(), "1.2.3", keys_.get()});
    rpc::ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.services = router_->services();
    server_ = rpc::Server::Start(options).value();
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::GenerationService::NewStub(channel_);
  }
  void TearDown() override {
    server_.reset();
    router_.reset();
  }

  static v1::GenerateRequest Request(int max_tokens) {
    v1::GenerateRequest request;
    request.mutable_text()->set_text("hello");
    request.mutable_expert()->set_name("general");
    request.mutable_stop()->set_max_tokens(max_tokens);
    request.mutable_stop()->set_ignore_end_of_generation(true);
    return request;
  }
  static void Show(const std::string& key, grpc::ClientContext* context) {
    if (!key.empty()) context->AddMetadata("authorization", absl::StrCat("Bearer ", key));
  }
  absl::Status Generate(const std::string& key, v1::GenerateResponse* response) {
    grpc::ClientContext context;
    Show(key, &context);
    return rpc::FromGrpcStatus(stub_->Generate(&context, Request(8), response));
  }
  absl::Status Generate(const std::string& key) {
    v1::GenerateResponse response;
    return Generate(key, &response);
  }

  static LocalBackbone* backbone_;
  telemetry::Metrics metrics_{{.service = "router", .version = "1.2.3", .arithmetic = "exact"}};
  std::unique_ptr<KeyRing> keys_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

LocalBackbone* ApiKeysTest::backbone_ = nullptr;

// Whatever the method, and before anything else is looked at.
TEST_F(ApiKeysTest, EveryMethodAsksForAKey) {
  Start(0, 0);
  const auto catalog = v1::CatalogService::NewStub(channel_);
  const struct {
    const char* key;
    Reason reason;
  } cases[] = {{"", Reason::kApiKeyMissing}, {"another", Reason::kApiKeyUnknown}};
  for (const auto& bad : cases) {
    const auto expect_refused = [&](const grpc::Status& status) {
      const absl::Status refused = rpc::FromGrpcStatus(status);
      EXPECT_EQ(refused.code(), absl::StatusCode::kUnauthenticated) << refused;
      EXPECT_EQ(base::ReasonOf(refused), bad.reason) << refused;
      EXPECT_EQ(std::string(refused.message()).find("another"), std::string::npos);
    };
    const auto call = [&](auto method, auto& stub, auto request, auto response) {
      grpc::ClientContext context;
      Show(bad.key, &context);
      expect_refused((stub.*method)(&context, request, &response));
    };
    using Generation = v1::GenerationService::Stub;
    using Catalog = v1::CatalogService::Stub;
    call(&Generation::Generate, *stub_, v1::GenerateRequest(), v1::GenerateResponse());
    call(&Generation::Score, *stub_, v1::ScoreRequest(), v1::ScoreResponse());
    call(&Generation::Route, *stub_, v1::RouteRequest(), v1::RouteResponse());
    call(&Generation::Tokenize, *stub_, v1::TokenizeRequest(), v1::TokenizeResponse());
    call(&Generation::CountTokens, *stub_, v1::CountTokensRequest(), v1::CountTokensResponse());
    call(&Catalog::ListExperts, *catalog, v1::ListExpertsRequest(), v1::ListExpertsResponse());
    call(&Catalog::GetExpert, *catalog, v1::GetExpertRequest(), v1::GetExpertResponse());
    call(&Catalog::GetModel, *catalog, v1::GetModelRequest(), v1::GetModelResponse());
    call(&Catalog::GetServerInfo, *catalog, v1::GetServerInfoRequest(),
         v1::GetServerInfoResponse());
    grpc::ClientContext context;
    Show(bad.key, &context);
    const auto reader = stub_->GenerateStream(&context, Request(8));
    v1::GenerateStreamResponse event;
    EXPECT_FALSE(reader->Read(&event));
    expect_refused(reader->Finish());
  }
  EXPECT_TRUE(Generate("the-key").ok());
}

TEST_F(ApiKeysTest, AKeyPaysForPromptsAndAnswers) {
  Start(0, 0);
  v1::GenerateResponse response;
  ASSERT_TRUE(Generate("the-key", &response).ok());
  const v1::Usage& usage = response.finished().usage();
  EXPECT_GT(usage.prompt_tokens(), 0);
  EXPECT_EQ(usage.completion_tokens(), 8);
  const int tokens = usage.prompt_tokens() + usage.completion_tokens();
  EXPECT_EQ(keys_->Callers()[0]->tokens(), tokens);
  EXPECT_THAT(metrics_.Text(),
              HasSubstr(absl::StrCat("ccoe_key_tokens_total{key=\"team-a\"} ", tokens)));
  EXPECT_THAT(metrics_.Text(), HasSubstr("ccoe_key_active_requests{key=\"team-a\"} 0"));
}

TEST_F(ApiKeysTest, AScorePaysForItsPrompt) {
  Start(0, 0);
  v1::ScoreRequest request;
  request.mutable_text()->set_text("hello");
  request.set_continuation_text(" world");
  request.mutable_expert()->set_name("general");
  v1::ScoreResponse response;
  grpc::ClientContext context;
  Show("the-key", &context);
  const grpc::Status status = stub_->Score(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(keys_->Callers()[0]->tokens(), response.usage().prompt_tokens());
}

TEST_F(ApiKeysTest, TellsWhenTokensAreThereAgain) {
  Start(0, 10);
  ASSERT_TRUE(Generate("the-key").ok());  // overdraws
  const absl::Status refused = Generate("the-key");
  EXPECT_EQ(base::ReasonOf(refused), Reason::kKeyTokens) << refused;
  const auto wait = base::DetailsOf(refused).retry_after;
  ASSERT_TRUE(wait.has_value());
  EXPECT_GT(*wait, absl::ZeroDuration());
  EXPECT_LT(*wait, absl::Minutes(2));
  EXPECT_THAT(metrics_.Text(), HasSubstr("ccoe_requests_rejected_total{reason=\"KEY_TOKENS\"} 1"));
}

TEST_F(ApiKeysTest, RefusesMoreRequestsAtATime) {
  Start(1, 0);
  grpc::ClientContext context;
  Show("the-key", &context);
  const auto reader = stub_->GenerateStream(&context, Request(400));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(base::ReasonOf(Generate("the-key")), Reason::kKeyConcurrency);
  context.TryCancel();
  while (reader->Read(&event)) continue;
  reader->Finish();
  // Its end is soon known on the server's side.
  while (keys_->Callers()[0]->active() > 0) std::this_thread::yield();
  EXPECT_TRUE(Generate("the-key").ok());
}

// Who goes away after the first tokens has had them, and the prompt.
TEST_F(ApiKeysTest, ACancelledRequestPaysForWhatItHad) {
  Start(0, 0);
  v1::GenerateResponse whole;
  ASSERT_TRUE(Generate("the-key", &whole).ok());
  const int64_t before = keys_->Callers()[0]->tokens();
  grpc::ClientContext context;
  Show("the-key", &context);
  const auto reader = stub_->GenerateStream(&context, Request(400));
  v1::GenerateStreamResponse event;
  do {
    ASSERT_TRUE(reader->Read(&event));
  } while (event.event_case() != v1::GenerateStreamResponse::kDelta);
  context.TryCancel();
  while (reader->Read(&event)) continue;
  reader->Finish();
  EXPECT_GT(keys_->Callers()[0]->tokens() - before, whole.finished().usage().prompt_tokens());
}

}  // namespace
}  // namespace ccoe::router
