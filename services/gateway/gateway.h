#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/telemetry/metrics.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace ccoe::gateway {

struct GatewayOptions {
  internal::v1::HttpConfig config;  // completed, with an address
  size_t max_body_bytes = 0;
  std::shared_ptr<grpc::Channel> channel;  // to a router
  telemetry::Metrics* metrics = nullptr;   // outlives the gateway
};

// The OpenAI-compatible HTTP API (docs/http.md) in front of a router's public API: one thread that
// blocks nowhere, whatever the number of streams. Thread-safe.
class Gateway {
 public:
  // Serves. Errors as of HttpServer::Start.
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(GatewayOptions options);
  // Cuts off what is left, and cancels its calls.
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // As clients dial it, with the port that was bound.
  const std::string& address() const;

  // As of HttpServer.
  void StartDraining();
  bool Drain(absl::Duration timeout);

 private:
  struct State;
  explicit Gateway(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::gateway
