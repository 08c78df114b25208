// What requests leave in the metrics of a router, over an engine in this process and a real socket.
#include <grpcpp/create_channel.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "gtest/gtest.h"
#include "services/router/local_backbone.h"
#include "services/router/router.h"

namespace ccoe::router {
namespace {

constexpr char kLora[] = R"({domain="tiny-lora",expert="tiny-lora",version="1.0.0"})";
constexpr char kGeneral[] = R"({domain="general",expert="general",version="base"})";

std::string Tiny(const std::string& name) {
  return absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/", name);
}

// Waits for what another thread is about to do.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class RequestMetricsTest : public testing::Test {
 protected:
  using Stream = grpc::ClientReader<v1::GenerateStreamResponse>;

  // The engine runs one session at a time.
  static void SetUpTestSuite() {
    LocalBackboneOptions options;
    options.model = model::Model::Load(Tiny("llama")).value();
    for (const char* name : {"llama_lora", "llama_full"}) {
      options.experts.push_back(model::ExpertPackage::Load(Tiny(name)).value());
    }
    options.cpu.arithmetic = compute::Arithmetic::kExact;
    options.cpu.threads = 1;
    options.kv_budget_bytes = size_t{16} << 20;
    options.max_sessions = 1;
    backbone_ = LocalBackbone::Create(std::move(options)).value().release();
  }
  static void TearDownTestSuite() { delete backbone_; }

  void Start(absl::Duration slow_reader_timeout = absl::Seconds(60)) {
    Limits limits;
    limits.max_active_requests = 2;
    limits.slow_reader_timeout = slow_reader_timeout;
    limits.max_buffered_events = 1;
    router_ = std::make_unique<Router>(RouterOptions{backbone_, &metrics_, limits, "1.2.3"});
    rpc::ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.services = router_->services();
    server_ = rpc::Server::Start(options).value();
    // A small window: a client that does not read is soon one that does not receive.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = v1::GenerationService::NewStub(grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), arguments));
  }
  void TearDown() override {
    server_.reset();
    router_.reset();
    EXPECT_TRUE(Eventually([] { return backbone_->Stats().kv_pages_used == 0; }));
  }

  static v1::GenerateRequest Request(const std::string& text, int max_tokens) {
    v1::GenerateRequest request;
    request.mutable_text()->set_text(text);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(max_tokens);
    request.mutable_stop()->set_ignore_end_of_generation(true);
    return request;
  }
  absl::Status Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return rpc::FromGrpcStatus(stub_->Generate(&context, request, &response));
  }
  // A stream that stands still, for nobody reads it after its first event.
  std::unique_ptr<Stream> StartPaused(grpc::ClientContext* context) {
    v1::GenerateRequest request = Request("tiny-full, hello", 400);
    request.mutable_output()->set_top_logprobs(20);
    auto stream = stub_->GenerateStream(context, request);
    v1::GenerateStreamResponse event;
    EXPECT_TRUE(stream->Read(&event));
    return stream;
  }
  static void Leave(grpc::ClientContext* context, Stream* stream) {
    context->TryCancel();
    v1::GenerateStreamResponse event;
    while (stream->Read(&event)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }

  // The value of a sample, named with its labels; -1: there is none.
  double Value(const std::string& sample) const {
    const std::string text = "\n" + metrics_.Text();
    const std::string line = absl::StrCat("\n", sample, " ");
    const size_t begin = text.find(line);
    double value = -1;
    if (begin == std::string::npos) return value;
    const size_t end = text.find('\n', begin + 1);
    EXPECT_TRUE(
        absl::SimpleAtod(text.substr(begin + line.size(), end - begin - line.size()), &value));
    return value;
  }
  bool Comes(const std::string& sample, double value) const {
    return Eventually([&] { return Value(sample) == value; });
  }
  // Of a histogram or counter of an expert's.
  static std::string Of(const char* name, const char* labels = kLora) {
    return absl::StrCat("ccoe_", name, labels);
  }

  static LocalBackbone* backbone_;
  telemetry::Metrics metrics_{{.service = "router", .version = "1.2.3", .arithmetic = "exact"}};
  std::unique_ptr<Router> router_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

LocalBackbone* RequestMetricsTest::backbone_ = nullptr;

TEST_F(RequestMetricsTest, RequestsAreCountedByExpertAndCode) {
  Start();
  ASSERT_TRUE(Generate(Request("tiny-lora", 3)).ok());
  EXPECT_TRUE(Comes(R"(ccoe_requests_total{domain="tiny-lora",expert="tiny-lora",)"
                    R"(grpc_code="OK",version="1.0.0"})",
                    1));
  EXPECT_EQ(Value(Of("generated_tokens_total")), 3);
  EXPECT_GT(Value(Of("prompt_tokens_total")), 0);
  EXPECT_EQ(Value(Of("time_to_first_token_seconds_count")), 1);
  EXPECT_EQ(Value(Of("inter_token_latency_seconds_count")), 2);
  EXPECT_EQ(Value(Of("request_duration_seconds_count")), 1);
  EXPECT_EQ(Value(R"(ccoe_route_decisions_total{domain="tiny-lora",reason="rules"})"), 1);
  EXPECT_EQ(Value(R"(ccoe_route_confidence_ratio_count{stage="rules"})"), 1);
  EXPECT_EQ(Value("ccoe_queue_duration_seconds_count"), 1);
  EXPECT_EQ(Value(Of("expert_healthy")), 1);
  // The others' are there, and at zero.
  EXPECT_EQ(Value(Of("generated_tokens_total", kGeneral)), 0);
  EXPECT_EQ(Value(Of("time_to_first_token_seconds_count", kGeneral)), 0);
  // What the process does not compute is not shown.
  EXPECT_EQ(Value("ccoe_batch_size_count"), -1);
}

TEST_F(RequestMetricsTest, WhatIsRefusedIsCountedByItsReason) {
  Start();
  EXPECT_FALSE(Generate({}).ok());
  v1::GenerateRequest request = Request("x", 3);
  request.set_domain("made up");
  EXPECT_EQ(base::ReasonOf(Generate(request)), base::Reason::kUnknownDomain);
  EXPECT_TRUE(Comes(R"(ccoe_requests_rejected_total{reason="UNKNOWN_DOMAIN"})", 1));
  EXPECT_EQ(Value(R"(ccoe_requests_rejected_total{reason="INVALID_REQUEST"})"), 1);
  EXPECT_EQ(Value(R"(ccoe_requests_rejected_total{reason="QUEUE_FULL"})"), 0);
  EXPECT_EQ(metrics_.Text().find("made up"), std::string::npos);
  EXPECT_TRUE(router_->Drain(absl::Seconds(60)));
  EXPECT_EQ(base::ReasonOf(Generate(Request("x", 3))), base::Reason::kDraining);
  EXPECT_TRUE(Comes(R"(ccoe_requests_rejected_total{reason="DRAINING"})", 1));
  EXPECT_EQ(Value(R"(ccoe_cancellations_total{cause="drain"})"), 0);
  EXPECT_EQ(Value("ccoe_draining"), 1);
}

TEST_F(RequestMetricsTest, TheQueueIsShownByDomain) {
  Start();
  grpc::ClientContext first_context;
  const auto first = StartPaused(&first_context);
  grpc::ClientContext second_context;
  const auto second = stub_->GenerateStream(&second_context, Request("tiny-lora", 3));
  EXPECT_TRUE(Comes(R"(ccoe_queue_requests{domain="tiny-lora"})", 1));
  EXPECT_EQ(Value(R"(ccoe_queue_requests{domain="tiny-full"})"), 0);
  EXPECT_EQ(Value("ccoe_active_requests"), 2);
  EXPECT_EQ(base::ReasonOf(Generate(Request("x", 3))), base::Reason::kQueueFull);
  EXPECT_TRUE(Comes(R"(ccoe_requests_rejected_total{reason="QUEUE_FULL"})", 1));
  Leave(&second_context, second.get());
  EXPECT_TRUE(Comes(R"(ccoe_queue_requests{domain="tiny-lora"})", 0));
  EXPECT_EQ(Value(R"(ccoe_queue_requests{domain="none"})"), 0);
  Leave(&first_context, first.get());
  EXPECT_TRUE(Comes(R"(ccoe_cancellations_total{cause="client"})", 2));
  EXPECT_EQ(Value("ccoe_queue_duration_seconds_count"), 2);
}

TEST_F(RequestMetricsTest, AClientThatDoesNotReadIsAStall) {
  Start(absl::Milliseconds(200));
  EXPECT_EQ(Value(R"(ccoe_stream_stall_seconds_total{stream="client"})"), 0);
  grpc::ClientContext context;
  const auto stream = StartPaused(&context);
  EXPECT_TRUE(Comes(R"(ccoe_cancellations_total{cause="slow_reader"})", 1));
  // It begins at the pause, a little after the progress that the time limit counts from.
  EXPECT_GE(Value(R"(ccoe_stream_stall_seconds_total{stream="client"})"), 0.1);
  v1::GenerateStreamResponse event;
  while (stream->Read(&event)) {
  }
  EXPECT_EQ(base::ReasonOf(rpc::FromGrpcStatus(stream->Finish())), base::Reason::kSlowReader);
}

TEST_F(RequestMetricsTest, APlansStepsAreCountedAtTheirExperts) {
  Start();
  v1::GenerateRequest request = Request("", 4);
  request.mutable_chat()->add_messages()->set_role(v1::ROLE_USER);
  request.mutable_chat()->mutable_messages(0)->set_content("hello");
  for (const char* domain : {"general", "tiny-lora", "tiny-lora"}) {
    v1::PlanStep* step = request.mutable_plan()->add_steps();
    step->set_domain(domain);
    step->set_instruction("go on");
    step->set_max_tokens(2);
  }
  const absl::Status status = Generate(request);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Eventually([&] { return Value(Of("prompt_tokens_total")) > 0; }));
  EXPECT_EQ(Value("ccoe_expert_switches_total"), 1);
  EXPECT_EQ(Value(Of("generated_tokens_total", kGeneral)), 2);
  EXPECT_EQ(Value(Of("generated_tokens_total")), 4);
  EXPECT_EQ(Value(Of("cached_tokens_total", kGeneral)), 0);
  EXPECT_GT(Value(Of("cached_tokens_total")), 0);
  EXPECT_LT(Value(Of("cached_tokens_total")), Value(Of("prompt_tokens_total")));
}

}  // namespace
}  // namespace ccoe::router
