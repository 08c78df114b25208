// A backbone's end of a session's stream, over a real socket: what becomes of routers that do not
// decide or do not read.
#include "services/backbone/session_call.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "ccoe/internal/v1/session.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/status.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

using base::Reason;
using internal::v1::SessionRequest;
using internal::v1::SessionResponse;

// Ends what would hang.
constexpr absl::Duration kPatience = absl::Minutes(1);

class SessionService final : public internal::v1::BackboneService::CallbackService {
 public:
  explicit SessionService(const backbone::SessionCallOptions& options) : options_(options) {}

  grpc::ServerBidiReactor<SessionRequest, SessionResponse>* Session(
      grpc::CallbackServerContext* context) override {
    return new backbone::SessionCall(options_, *context);
  }

 private:
  const backbone::SessionCallOptions options_;
};

class SessionCallTest : public ::testing::Test {
 protected:
  using Stream = grpc::ClientReaderWriter<SessionRequest, SessionResponse>;

  void SetUp() override {
    options_.engine = engine_.get();
    options_.model = model_.get();
    options_.max_context = model_->config().context;
    context_.set_deadline(absl::ToChronoTime(absl::Now() + 2 * kPatience));
  }

  // Serves with options_ and opens a session.
  void Open() {
    service_ = std::make_unique<SessionService>(options_);
    rpc::ServerOptions server;
    server.listen = "127.0.0.1:0";
    server.services = {service_.get()};
    server_ = rpc::Server::Start(server).value();
    // A small window: a router that does not read is soon one that does not receive.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = internal::v1::BackboneService::NewStub(grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), arguments));
    stream_ = stub_->Session(&context_);
    SessionRequest request;
    internal::v1::OpenSession* open = request.mutable_open();
    open->set_request_id("test");
    open->mutable_input()->set_text("hello");
    open->set_want_pooled(routing_layer_ > 0);
    open->set_routing_layer(routing_layer_);
    open->mutable_sampling()->set_top_p(1);
    open->mutable_sampling()->set_repetition_penalty(1);
    open->mutable_sampling()->set_top_logprobs(20);  // large responses
    open->mutable_stop()->set_max_tokens(400);
    open->mutable_stop()->set_ignore_end_of_generation(true);
    ASSERT_TRUE(stream_->Write(request));
    ASSERT_TRUE(stream_->Read(&response_));
    ASSERT_TRUE(response_.has_route_state());
  }
  void Decide() {
    SessionRequest request;
    request.mutable_decide()->mutable_expert()->set_name("general");
    ASSERT_TRUE(stream_->Write(request));
  }
  bool Runs() {
    return Eventually([this] { return engine_->Stats().kv_pages_used > 0; });
  }
  bool Ends() {
    return Eventually([this] { return engine_->Stats().kv_pages_used == 0; });
  }

  // A router that reads nothing of a session from its start on does not hold up the server's end.
  void ExpectCutOff() {
    options_.slow_reader_timeout = absl::Milliseconds(50);
    Open();
    Decide();
    ASSERT_TRUE(Runs());
    EXPECT_TRUE(Ends());
    const absl::Time start = absl::Now();
    server_->Shutdown(kPatience);  // waits for its calls
    EXPECT_LT(absl::Now() - start, kPatience);
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  const std::unique_ptr<runtime::Engine> engine_ = MakeEngine(model_, {.cpu = {.threads = 1}});
  backbone::SessionCallOptions options_;
  int routing_layer_ = 0;
  std::unique_ptr<SessionService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<internal::v1::BackboneService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  SessionResponse response_;
};

TEST_F(SessionCallTest, AnUndecidedSessionExpires) {
  options_.decide_timeout = absl::Milliseconds(50);
  Open();
  EXPECT_FALSE(stream_->Read(&response_));
  const grpc::Status status = stream_->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("no expert was decided for"));
}

// What it has computed is given back.
TEST_F(SessionCallTest, AnUndecidedSessionExpiresAfterItsState) {
  options_.decide_timeout = absl::Milliseconds(50);
  routing_layer_ = 1;
  Open();
  EXPECT_EQ(response_.route_state().pooled_size(), model_->config().hidden);
  EXPECT_FALSE(stream_->Read(&response_));
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Ends());
}

TEST_F(SessionCallTest, ARouterThatReadsTooLateIsToldWhy) {
  options_.max_queued_responses = 4;
  options_.slow_reader_timeout = absl::Seconds(1);
  Open();
  Decide();
  ASSERT_TRUE(Runs());
  EXPECT_TRUE(Ends());
  while (stream_->Read(&response_)) EXPECT_FALSE(response_.has_finished());
  const absl::Status status = rpc::FromGrpcStatus(stream_->Finish());
  EXPECT_EQ(base::ReasonOf(status), Reason::kSlowReader) << status;
}

TEST_F(SessionCallTest, ARouterThatNeverReadsIsCutOff) {
  options_.max_queued_responses = 4;
  ExpectCutOff();
}

// All that it has not read fits the queue, so that the session itself never had to wait.
TEST_F(SessionCallTest, ARouterThatNeverReadsTheEndIsCutOff) {
  options_.max_queued_responses = 1000;
  ExpectCutOff();
}

}  // namespace
}  // namespace ccoe::testing
