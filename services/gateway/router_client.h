#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/catalog_service.pb.h"
#include "ccoe/v1/generation_service.pb.h"
#include "services/gateway/event_loop.h"
#include "services/gateway/exchange.h"

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace ccoe::gateway {

// A call to the router while it runs; on the loop's thread alone.
class Call {
 public:
  // Without effect once it has ended. The call ends with CANCELLED, and whoever waits is told so.
  void Cancel() {
    if (cancel_) cancel_();
  }
  // Goes on with a stream that stopped because on_event returned kPause.
  void Resume() {
    if (resume_) resume_();
  }

 private:
  friend class CallEnd;
  std::function<void()> cancel_;
  std::function<void()> resume_;
};

// The public API of a router, as calls that tell their results on the loop's thread. Every call
// carries the request's id, trace context and authorization. Used on the loop's thread; outlives
// its calls.
class RouterClient {
 public:
  template <typename Response>
  using Done = std::function<void(absl::StatusOr<Response>)>;
  enum class Next { kRead, kPause };

  // `loop` outlives it.
  RouterClient(EventLoop& loop, std::shared_ptr<grpc::Channel> channel);
  ~RouterClient();

  // Calls `on_event` for each event, then `on_end`.
  std::shared_ptr<Call> GenerateStream(
      const HttpRequest& http, v1::GenerateRequest request,
      std::function<Next(const v1::GenerateStreamResponse&)> on_event,
      std::function<void(const absl::Status&)> on_end);
  std::shared_ptr<Call> Generate(const HttpRequest& http, v1::GenerateRequest request,
                                 Done<v1::GenerateResponse> done);
  std::shared_ptr<Call> Score(const HttpRequest& http, v1::ScoreRequest request,
                              Done<v1::ScoreResponse> done);
  std::shared_ptr<Call> Tokenize(const HttpRequest& http, v1::TokenizeRequest request,
                                 Done<v1::TokenizeResponse> done);
  std::shared_ptr<Call> Route(const HttpRequest& http, v1::RouteRequest request,
                              Done<v1::RouteResponse> done);
  std::shared_ptr<Call> ListExperts(const HttpRequest& http, Done<v1::ListExpertsResponse> done);
  std::shared_ptr<Call> GetModel(const HttpRequest& http, Done<v1::GetModelResponse> done);
  std::shared_ptr<Call> GetServerInfo(const HttpRequest& http,
                                      Done<v1::GetServerInfoResponse> done);
  std::shared_ptr<Call> GetStatus(const HttpRequest& http, Done<v1::GetStatusResponse> done);
  // grpc.health.v1: OK while the router serves.
  std::shared_ptr<Call> CheckHealth(const HttpRequest& http,
                                    std::function<void(const absl::Status&)> done);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::gateway
