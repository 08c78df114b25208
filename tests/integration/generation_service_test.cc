// The public services over an engine in this process and a real socket.
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/router/local_backbone.h"
#include "services/router/router.h"

namespace ccoe::router {
namespace {

using base::Reason;
using testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kContext = 512;

std::string Tiny(const std::string& name) {
  return absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/", name);
}

// Waits for what another thread is about to do.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// The values of a trailer or header.
std::string ValueOf(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
                    const std::string& key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

class GenerationServiceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    LocalBackboneOptions options;
    options.model = model::Model::Load(Tiny("llama")).value();
    for (const char* name : {"llama_lora", "llama_full"}) {
      options.experts.push_back(model::ExpertPackage::Load(Tiny(name)).value());
    }
    options.cpu.arithmetic = compute::Arithmetic::kExact;
    options.cpu.threads = 1;
    options.kv_budget_bytes = size_t{16} << 20;
    backbone_ = LocalBackbone::Create(std::move(options)).value().release();
  }
  static void TearDownTestSuite() { delete backbone_; }

  void Start(const Limits& limits = Limits()) {
    router_ = std::make_unique<Router>(RouterOptions{backbone_, &metrics_, limits, "1.2.3"});
    rpc::ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.services = router_->services();
    server_ = rpc::Server::Start(options).value();
    // A small window: a client that does not read is soon one that does not receive.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         arguments);
    stub_ = v1::GenerationService::NewStub(channel_);
  }
  void TearDown() override {
    server_.reset();
    router_.reset();
    EXPECT_TRUE(Eventually([] { return backbone_->Stats().kv_pages_used == 0; }));
  }

  static v1::GenerateRequest Request(const std::string& text, int max_tokens = 8) {
    v1::GenerateRequest request;
    request.mutable_text()->set_text(text);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(max_tokens);
    request.mutable_stop()->set_ignore_end_of_generation(true);
    request.mutable_output()->set_token_ids(true);
    return request;
  }
  // One whose events are large: the client's window fills soon.
  static v1::GenerateRequest LargeRequest() {
    v1::GenerateRequest request = Request("hello", 400);
    request.mutable_output()->set_top_logprobs(20);
    return request;
  }

  absl::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
    grpc::ClientContext context;
    return rpc::FromGrpcStatus(stub_->Generate(&context, request, response));
  }
  absl::Status FailureOf(const v1::GenerateRequest& request) {
    v1::GenerateResponse response;
    return Generate(request, &response);
  }

  static LocalBackbone* backbone_;
  telemetry::Metrics metrics_{{.service = "router", .version = "1.2.3", .arithmetic = "exact"}};
  std::unique_ptr<Router> router_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

LocalBackbone* GenerationServiceTest::backbone_ = nullptr;

TEST_F(GenerationServiceTest, AStreamIsTheUnaryAnswerInPieces) {
  Start();
  v1::GenerateResponse whole;
  ASSERT_TRUE(Generate(Request("tiny-lora, say something"), &whole).ok());
  EXPECT_EQ(whole.started().route().domain(), "tiny-lora");
  EXPECT_EQ(whole.started().route().stage(), v1::ROUTE_STAGE_RULES);
  EXPECT_EQ(whole.token_ids_size(), 8);

  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "test-17");
  auto reader = stub_->GenerateStream(&context, Request("tiny-lora, say something"));
  std::vector<v1::GenerateStreamResponse> events(1);
  while (reader->Read(&events.back())) events.emplace_back();
  events.pop_back();
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_GE(events.size(), 4u);
  EXPECT_EQ(events[0].started().request_id(), "test-17");
  EXPECT_EQ(events[0].started().model_digest(), backbone_->GetCatalog()->model.digest);
  EXPECT_EQ(events[1].step_started().expert(), "tiny-lora");
  std::string text;
  std::vector<int32_t> ids;
  for (size_t i = 2; i + 1 < events.size(); ++i) {
    const v1::Delta& delta = events[i].delta();
    if (delta.token_ids_size() > 0) {
      EXPECT_EQ(delta.token_offset(), static_cast<int>(ids.size()));
    }
    text += delta.text();
    ids.insert(ids.end(), delta.token_ids().begin(), delta.token_ids().end());
  }
  EXPECT_EQ(text, whole.text());
  EXPECT_EQ(ids, std::vector<int32_t>(whole.token_ids().begin(), whole.token_ids().end()));
  const v1::Finished& finished = events.back().finished();
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finished.usage().completion_tokens(), 8);
  EXPECT_EQ(finished.usage().prompt_tokens(), whole.finished().usage().prompt_tokens());
  EXPECT_EQ(ValueOf(context.GetServerInitialMetadata(), "x-request-id"), "test-17");
  EXPECT_EQ(ValueOf(context.GetServerTrailingMetadata(), "x-request-id"), "test-17");
}

TEST_F(GenerationServiceTest, TargetsDecideWhoAnswers) {
  Start();
  std::vector<std::string> texts;
  for (const char* domain : {"general", "tiny-lora", "tiny-full"}) {
    v1::GenerateRequest request = Request("hello there", 16);
    request.set_domain(domain);
    v1::GenerateResponse response;
    ASSERT_TRUE(Generate(request, &response).ok());
    EXPECT_EQ(response.started().route().domain(), domain);
    EXPECT_EQ(response.started().route().stage(), v1::ROUTE_STAGE_EXPLICIT);
    texts.push_back(response.text());
  }
  EXPECT_NE(texts[0], texts[2]);

  v1::GenerateRequest request = Request("x");
  request.set_domain("poetry");
  absl::Status status = FailureOf(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(status), Reason::kUnknownDomain);
  request.mutable_expert()->set_name("tiny-lora");
  request.mutable_expert()->set_version("9");
  EXPECT_EQ(base::ReasonOf(FailureOf(request)), Reason::kUnknownExpert);
}

TEST_F(GenerationServiceTest, RouteSaysWhereAPromptGoes) {
  Start();
  v1::RouteRequest request;
  request.mutable_text()->set_text("ask tiny-full about it");
  v1::RouteResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Route(&context, request, &response).ok());
  EXPECT_EQ(response.route().domain(), "tiny-full");
  EXPECT_EQ(response.route().runner_up(), "general");
  EXPECT_EQ(response.candidates_size(), 2);

  // Token ids are read through the tokenizer.
  v1::TokenizeRequest tokenize;
  *tokenize.mutable_text() = request.text();
  v1::TokenizeResponse tokens;
  grpc::ClientContext tokenize_context;
  ASSERT_TRUE(stub_->Tokenize(&tokenize_context, tokenize, &tokens).ok());
  for (const v1::Token& token : tokens.tokens()) request.mutable_token_ids()->add_ids(token.id());
  grpc::ClientContext ids_context;
  v1::RouteResponse by_ids;
  ASSERT_TRUE(stub_->Route(&ids_context, request, &by_ids).ok());
  EXPECT_EQ(by_ids.route().domain(), "tiny-full");

  v1::CountTokensRequest count;
  *count.mutable_text() = tokenize.text();
  v1::CountTokensResponse counted;
  grpc::ClientContext count_context;
  ASSERT_TRUE(stub_->CountTokens(&count_context, count, &counted).ok());
  EXPECT_EQ(counted.tokens(), tokens.tokens_size());
  EXPECT_EQ(counted.max_prompt_tokens(), kContext - 1);
}

TEST_F(GenerationServiceTest, ScoreGivesTheLogprobsOfGeneration) {
  Start();
  v1::GenerateRequest request = Request("hello there");
  request.mutable_output()->set_top_logprobs(2);
  v1::GenerateResponse generated;
  ASSERT_TRUE(Generate(request, &generated).ok());
  ASSERT_EQ(generated.logprobs_size(), 8);
  EXPECT_EQ(generated.logprobs(0).top_size(), 2);
  EXPECT_EQ(generated.logprobs(0).top(0).id(), generated.token_ids(0));  // greedy

  v1::ScoreRequest score;
  *score.mutable_text() = request.text();
  *score.mutable_continuation_ids()->mutable_ids() = generated.token_ids();
  score.set_top_logprobs(2);
  v1::ScoreResponse scored;
  grpc::ClientContext context;
  const grpc::Status status = stub_->Score(&context, score, &scored);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(scored.tokens_size(), 8);
  double total = 0;
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(scored.tokens(i).id(), generated.token_ids(i));
    EXPECT_EQ(scored.tokens(i).logprob(), generated.logprobs(i).logprob()) << i;
    ASSERT_EQ(scored.tokens(i).top_size(), 2);
    EXPECT_EQ(scored.tokens(i).top(0).id(), generated.token_ids(i));  // greedy
    total += scored.tokens(i).logprob();
  }
  EXPECT_DOUBLE_EQ(scored.total_logprob(), total);
}

TEST_F(GenerationServiceTest, AnUnsetSeedIsDrawnAndTold) {
  Start();
  v1::GenerateRequest request = Request("hello there", 16);
  request.mutable_sampling()->set_temperature(2);
  v1::GenerateResponse first;
  ASSERT_TRUE(Generate(request, &first).ok());
  request.mutable_sampling()->set_seed(first.started().seed());
  v1::GenerateResponse again;
  ASSERT_TRUE(Generate(request, &again).ok());
  EXPECT_EQ(again.text(), first.text());
}

TEST_F(GenerationServiceTest, ALongPromptIsRefusedWithBothCounts) {
  Start();
  v1::GenerateRequest request;
  for (int i = 0; i < kContext; ++i) request.mutable_token_ids()->add_ids(5);
  const absl::Status status = FailureOf(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(status), Reason::kPromptTooLong);
  EXPECT_THAT(base::DetailsOf(status).metadata,
              testing::UnorderedElementsAre(testing::Pair("prompt_tokens", "512"),
                                            testing::Pair("max_prompt_tokens", "511")));
  request.mutable_token_ids()->mutable_ids()->Resize(kContext - 2, 5);
  v1::GenerateResponse response;
  ASSERT_TRUE(Generate(request, &response).ok());
  EXPECT_LE(response.finished().usage().completion_tokens(), 2);
  request.mutable_token_ids()->set_ids(3, 320);
  EXPECT_EQ(FailureOf(request).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GenerationServiceTest, BytesThatAreNoRequestAreRefusedByName) {
  Start();
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(channel_);
  for (const std::string bytes : {"\xff\xff", "\x12\x03\x0a\x01\xff"}) {  // no field; no UTF-8
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "test-18");
    absl::Notification done;
    grpc::Status result;
    stub.UnaryCall(&context, "/ccoe.v1.GenerationService/Generate", grpc::StubOptions(), &request,
                   &response, [&](grpc::Status status) {
                     result = std::move(status);
                     done.Notify();
                   });
    done.WaitForNotification();
    const absl::Status status = rpc::FromGrpcStatus(result);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(result.error_details().empty());
    EXPECT_THAT(std::string(status.message()), HasSubstr("not a ccoe.v1.GenerateRequest"));
    EXPECT_EQ(ValueOf(context.GetServerTrailingMetadata(), "x-request-id"), "test-18");
  }
}

TEST_F(GenerationServiceTest, NothingIsSentBeforeAdmission) {
  Limits limits;
  limits.max_active_requests = 1;
  limits.max_buffered_events = 1;
  Start(limits);
  grpc::ClientContext holder_context;
  auto holder = stub_->GenerateStream(&holder_context, LargeRequest());
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(holder->Read(&event));

  grpc::ClientContext context;
  auto reader = stub_->GenerateStream(&context, Request("x"));
  EXPECT_FALSE(reader->Read(&event));
  const absl::Status status = rpc::FromGrpcStatus(reader->Finish());
  EXPECT_EQ(base::ReasonOf(status), Reason::kQueueFull);
  EXPECT_TRUE(base::DetailsOf(status).retry_after.has_value());
  EXPECT_EQ(ValueOf(context.GetServerInitialMetadata(), "x-request-id"), "");
  EXPECT_NE(ValueOf(context.GetServerTrailingMetadata(), "x-request-id"), "");
  EXPECT_NE(ValueOf(context.GetServerTrailingMetadata(), "grpc-retry-pushback-ms"), "");
  holder_context.TryCancel();
  while (holder->Read(&event)) {
  }
  EXPECT_EQ(holder->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GenerationServiceTest, ClientsThatLeaveStopTheirSessions) {
  Start();
  {
    grpc::ClientContext context;
    auto reader = stub_->GenerateStream(&context, LargeRequest());
    v1::GenerateStreamResponse event;
    ASSERT_TRUE(reader->Read(&event));
    context.TryCancel();
    while (reader->Read(&event)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] { return backbone_->Stats().kv_pages_used == 0; }));
}

TEST_F(GenerationServiceTest, TheServersLimitEndsARequest) {
  Limits limits;
  limits.max_request_time = absl::Milliseconds(300);
  limits.max_buffered_events = 1;
  limits.slow_reader_timeout = kPatience;
  Start(limits);
  grpc::ClientContext context;
  auto reader = stub_->GenerateStream(&context, LargeRequest());  // paused: takes for ever
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(metrics_.Text(), "ccoe_cancellations_total{cause=\"deadline\"} 1");
  }));
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(base::ReasonOf(rpc::FromGrpcStatus(reader->Finish())), Reason::kDeadlineExceeded);
}

TEST_F(GenerationServiceTest, OnlyASlowReaderWaitsAndIsCancelledAtLast) {
  Limits limits;
  limits.max_buffered_events = 2;
  limits.slow_reader_timeout = absl::Seconds(1);
  Start(limits);
  grpc::ClientContext context;
  auto slow = stub_->GenerateStream(&context, LargeRequest());
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(slow->Read(&event));
  v1::GenerateResponse other;  // others go on meanwhile
  EXPECT_TRUE(Generate(Request("hello"), &other).ok());
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(metrics_.Text(), "ccoe_cancellations_total{cause=\"slow_reader\"} 1");
  }));
  while (slow->Read(&event)) EXPECT_FALSE(event.has_finished());
  EXPECT_EQ(base::ReasonOf(rpc::FromGrpcStatus(slow->Finish())), Reason::kSlowReader);
}

TEST_F(GenerationServiceTest, DrainingRefusesWhatIsNew) {
  Start();
  EXPECT_TRUE(router_->Drain(kPatience));
  const absl::Status status = FailureOf(Request("x"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(status), Reason::kDraining);
}

TEST_F(GenerationServiceTest, ADrainEndsWhatOutlastsIt) {
  Limits limits;
  limits.max_buffered_events = 1;
  Start(limits);
  grpc::ClientContext context;
  auto reader = stub_->GenerateStream(&context, LargeRequest());  // paused: takes for ever
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_FALSE(router_->Drain(absl::Milliseconds(50)));
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(base::ReasonOf(rpc::FromGrpcStatus(reader->Finish())), Reason::kDraining);
  EXPECT_THAT(metrics_.Text(), HasSubstr("ccoe_cancellations_total{cause=\"drain\"} 1"));
}

TEST_F(GenerationServiceTest, TheCatalogDescribesExpertsAndModel) {
  Start();
  const auto stub = v1::CatalogService::NewStub(channel_);
  v1::ListExpertsResponse experts;
  grpc::ClientContext list_context;
  ASSERT_TRUE(stub->ListExperts(&list_context, {}, &experts).ok());
  ASSERT_EQ(experts.experts_size(), 3);
  EXPECT_EQ(experts.experts(0).name(), "general");
  EXPECT_EQ(experts.experts(1).name(), "tiny-full");
  EXPECT_EQ(experts.experts(1).attach_depth(), 2);
  EXPECT_EQ(experts.experts(1).state(), v1::EXPERT_STATE_READY);
  EXPECT_EQ(experts.experts(1).license(), "Apache-2.0");

  v1::GetExpertRequest get;
  get.set_name("tiny-none");
  v1::GetExpertResponse expert;
  grpc::ClientContext get_context;
  EXPECT_EQ(stub->GetExpert(&get_context, get, &expert).error_code(), grpc::StatusCode::NOT_FOUND);

  v1::GetModelResponse model;
  grpc::ClientContext model_context;
  ASSERT_TRUE(stub->GetModel(&model_context, {}, &model).ok());
  EXPECT_EQ(model.model().layers(), 4);
  EXPECT_EQ(model.model().arithmetic(), "exact");
  EXPECT_THAT(model.model().digest(), HasSubstr("sha256:"));

  v1::GetServerInfoResponse info;
  grpc::ClientContext info_context;
  ASSERT_TRUE(stub->GetServerInfo(&info_context, {}, &info).ok());
  EXPECT_EQ(info.version(), "1.2.3");
  EXPECT_EQ(info.max_prompt_tokens(), kContext - 1);
}

TEST_F(GenerationServiceTest, TheStatusTellsTheServerAndItsWork) {
  Start();
  const auto stub = v1::CatalogService::NewStub(channel_);
  v1::GetStatusResponse before;
  grpc::ClientContext before_context;
  ASSERT_TRUE(stub->GetStatus(&before_context, {}, &before).ok());
  EXPECT_GT(before.started_at().seconds(), 0);
  EXPECT_EQ(before.generated_tokens(), 0);
  ASSERT_EQ(before.nodes_size(), 1);
  EXPECT_EQ(before.nodes(0).role(), v1::NODE_ROLE_SERVER);
  EXPECT_TRUE(before.nodes(0).healthy());
  ASSERT_EQ(before.nodes(0).experts_size(), 3);
  EXPECT_EQ(before.nodes(0).experts(0).name(), "general");
  EXPECT_GT(before.nodes(0).load().kv_blocks_total(), 0);
  EXPECT_EQ(before.nodes(0).load().kv_blocks_used(), 0);

  v1::GenerateResponse answer;
  ASSERT_TRUE(Generate(Request("hello"), &answer).ok());
  v1::GetStatusResponse after;
  grpc::ClientContext after_context;
  ASSERT_TRUE(stub->GetStatus(&after_context, {}, &after).ok());
  EXPECT_EQ(after.prompt_tokens(), answer.finished().usage().prompt_tokens());
  EXPECT_EQ(after.generated_tokens(), answer.finished().usage().completion_tokens());
}

}  // namespace
}  // namespace ccoe::router
