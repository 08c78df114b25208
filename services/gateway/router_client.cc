#include "services/gateway/router_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <string>

#include "absl/time/clock.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/request_context.h"
#include "common/rpc/status.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace ccoe::gateway {

// Ties a Call to the reactor behind it, until that has ended.
class CallEnd {
 public:
  CallEnd() : call_(std::make_shared<Call>()) {}
  ~CallEnd() {
    call_->cancel_ = nullptr;
    call_->resume_ = nullptr;
  }
  CallEnd(const CallEnd&) = delete;
  CallEnd& operator=(const CallEnd&) = delete;

  void Set(std::function<void()> cancel, std::function<void()> resume) {
    call_->cancel_ = std::move(cancel);
    call_->resume_ = std::move(resume);
  }
  const std::shared_ptr<Call>& call() const { return call_; }

 private:
  const std::shared_ptr<Call> call_;
};

namespace {

// Longer than routers let requests take: it is theirs to end one.
constexpr absl::Duration kRequestTime = absl::Hours(24);
constexpr absl::Duration kLookupTime = absl::Seconds(10);

constexpr char kAuthorizationKey[] = "authorization";

void Prepare(const HttpRequest& http, absl::Duration timeout, grpc::ClientContext& context) {
  rpc::WriteRequestContext({http.request_id, http.traceparent}, context);
  if (!http.authorization.empty()) context.AddMetadata(kAuthorizationKey, http.authorization);
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

// What both kinds of calls have. Deleted on the loop's thread, the context before the hold.
struct CallState {
  explicit CallState(EventLoop& event_loop) : loop(event_loop), hold(event_loop) {}

  EventLoop& loop;
  const EventLoop::Hold hold;
  CallEnd end;
  grpc::ClientContext context;
  grpc::Status status;
};

template <typename Request, typename Response>
class UnaryReactor final : public grpc::ClientUnaryReactor {
 public:
  UnaryReactor(EventLoop& loop, Request request, RouterClient::Done<Response> done)
      : state_(loop), request_(std::move(request)), done_(std::move(done)) {}

  // `method(context, request, response, reactor)` begins the call. Deletes itself at its end.
  template <typename Method>
  std::shared_ptr<Call> Start(const HttpRequest& http, absl::Duration timeout, Method method) {
    Prepare(http, timeout, state_.context);
    state_.end.Set([this] { state_.context.TryCancel(); }, nullptr);
    std::shared_ptr<Call> call = state_.end.call();
    method(&state_.context, &request_, &response_, this);
    StartCall();
    return call;
  }

  void OnDone(const grpc::Status& status) override {
    state_.status = status;
    state_.loop.Post([this] {
      const std::unique_ptr<UnaryReactor> self(this);
      if (state_.status.ok()) {
        done_(std::move(response_));
      } else {
        done_(rpc::FromGrpcStatus(state_.status));
      }
    });
  }

 private:
  CallState state_;
  const Request request_;
  Response response_;
  const RouterClient::Done<Response> done_;
};

// Reads on the loop's demand: gRPC's flow control holds back what is not read.
class StreamReactor final : public grpc::ClientReadReactor<v1::GenerateStreamResponse> {
 public:
  using OnEvent = std::function<RouterClient::Next(const v1::GenerateStreamResponse&)>;
  using OnEnd = std::function<void(const absl::Status&)>;

  StreamReactor(EventLoop& loop, v1::GenerateRequest request, OnEvent on_event, OnEnd on_end)
      : state_(loop),
        request_(std::move(request)),
        on_event_(std::move(on_event)),
        on_end_(std::move(on_end)) {}

  std::shared_ptr<Call> Start(const HttpRequest& http, v1::GenerationService::Stub& stub) {
    Prepare(http, kRequestTime, state_.context);
    state_.end.Set([this] { Cancel(); }, [this] { Resume(); });
    std::shared_ptr<Call> call = state_.end.call();
    stub.async()->GenerateStream(&state_.context, &request_, this);
    AddHold();  // reads are started outside of reactions, until the last one
    StartRead(&event_);
    StartCall();
    return call;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    state_.loop.Post([this] {
      if (on_event_(event_) == RouterClient::Next::kPause && !cancelled_) {
        paused_ = true;
      } else {
        StartRead(&event_);
      }
    });
  }

  void OnDone(const grpc::Status& status) override {
    state_.status = status;
    state_.loop.Post([this] {
      const std::unique_ptr<StreamReactor> self(this);
      on_end_(rpc::FromGrpcStatus(state_.status));
    });
  }

 private:
  void Cancel() {
    cancelled_ = true;
    state_.context.TryCancel();
    Resume();
  }

  void Resume() {
    if (!paused_) return;
    paused_ = false;
    StartRead(&event_);
  }

  CallState state_;
  const v1::GenerateRequest request_;
  const OnEvent on_event_;
  const OnEnd on_end_;
  v1::GenerateStreamResponse event_;
  // Of the loop's thread.
  bool paused_ = false;
  bool cancelled_ = false;
};

template <typename Response, typename Request, typename Method>
std::shared_ptr<Call> CallUnary(EventLoop& loop, const HttpRequest& http, absl::Duration timeout,
                                Request request, Method method, RouterClient::Done<Response> done) {
  auto* reactor = new UnaryReactor<Request, Response>(loop, std::move(request), std::move(done));
  return reactor->Start(http, timeout, method);
}

}  // namespace

struct RouterClient::State {
  State(EventLoop& event_loop, const std::shared_ptr<grpc::Channel>& channel)
      : loop(event_loop),
        generation(channel),
        catalog(channel),
        health(grpc::health::v1::Health::NewStub(channel)) {}

  EventLoop& loop;
  v1::GenerationService::Stub generation;
  v1::CatalogService::Stub catalog;
  const std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

RouterClient::RouterClient(EventLoop& loop, std::shared_ptr<grpc::Channel> channel)
    : state_(std::make_unique<State>(loop, channel)) {}

RouterClient::~RouterClient() = default;

std::shared_ptr<Call> RouterClient::GenerateStream(
    const HttpRequest& http, v1::GenerateRequest request,
    std::function<Next(const v1::GenerateStreamResponse&)> on_event,
    std::function<void(const absl::Status&)> on_end) {
  auto* reactor =
      new StreamReactor(state_->loop, std::move(request), std::move(on_event), std::move(on_end));
  return reactor->Start(http, state_->generation);
}

std::shared_ptr<Call> RouterClient::Generate(const HttpRequest& http, v1::GenerateRequest request,
                                             Done<v1::GenerateResponse> done) {
  return CallUnary<v1::GenerateResponse>(
      state_->loop, http, kRequestTime, std::move(request),
      [this](auto... arguments) { state_->generation.async()->Generate(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::Score(const HttpRequest& http, v1::ScoreRequest request,
                                          Done<v1::ScoreResponse> done) {
  return CallUnary<v1::ScoreResponse>(
      state_->loop, http, kRequestTime, std::move(request),
      [this](auto... arguments) { state_->generation.async()->Score(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::Tokenize(const HttpRequest& http, v1::TokenizeRequest request,
                                             Done<v1::TokenizeResponse> done) {
  return CallUnary<v1::TokenizeResponse>(
      state_->loop, http, kLookupTime, std::move(request),
      [this](auto... arguments) { state_->generation.async()->Tokenize(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::Route(const HttpRequest& http, v1::RouteRequest request,
                                          Done<v1::RouteResponse> done) {
  return CallUnary<v1::RouteResponse>(
      state_->loop, http, kRequestTime, std::move(request),
      [this](auto... arguments) { state_->generation.async()->Route(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::ListExperts(const HttpRequest& http,
                                                Done<v1::ListExpertsResponse> done) {
  return CallUnary<v1::ListExpertsResponse>(
      state_->loop, http, kLookupTime, v1::ListExpertsRequest(),
      [this](auto... arguments) { state_->catalog.async()->ListExperts(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::GetModel(const HttpRequest& http,
                                             Done<v1::GetModelResponse> done) {
  return CallUnary<v1::GetModelResponse>(
      state_->loop, http, kLookupTime, v1::GetModelRequest(),
      [this](auto... arguments) { state_->catalog.async()->GetModel(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::GetServerInfo(const HttpRequest& http,
                                                  Done<v1::GetServerInfoResponse> done) {
  return CallUnary<v1::GetServerInfoResponse>(
      state_->loop, http, kLookupTime, v1::GetServerInfoRequest(),
      [this](auto... arguments) { state_->catalog.async()->GetServerInfo(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::GetStatus(const HttpRequest& http,
                                              Done<v1::GetStatusResponse> done) {
  return CallUnary<v1::GetStatusResponse>(
      state_->loop, http, kLookupTime, v1::GetStatusRequest(),
      [this](auto... arguments) { state_->catalog.async()->GetStatus(arguments...); },
      std::move(done));
}

std::shared_ptr<Call> RouterClient::CheckHealth(const HttpRequest& http,
                                                std::function<void(const absl::Status&)> done) {
  using Response = grpc::health::v1::HealthCheckResponse;
  return CallUnary<Response>(
      state_->loop, http, kLookupTime, grpc::health::v1::HealthCheckRequest(),
      [this](auto... arguments) { state_->health->async()->Check(arguments...); },
      [done = std::move(done)](const absl::StatusOr<Response>& response) {
        if (!response.ok()) {
          done(response.status());
        } else if (response->status() == Response::SERVING) {
          done(absl::OkStatus());
        } else {
          done(base::MakeError(base::Reason::kUnavailable, "the router does not serve"));
        }
      });
}

}  // namespace ccoe::gateway
