#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/rpc/upload.h"
#include "common/telemetry/metrics.h"
#include "services/router/backbone.h"
#include "services/router/validation.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::internal::v1 {
class LimitsConfig;
class ServerConfig;
}  // namespace ccoe::internal::v1

namespace ccoe::router {

class ExpertHost;
class KeyRing;

struct RouterOptions {
  Backbone* backbone = nullptr;           // outlives the router
  telemetry::Metrics* metrics = nullptr;  // outlives the router
  Limits limits;
  std::string version;            // for GetServerInfo
  const KeyRing* keys = nullptr;  // null: no key is asked for; outlives the router
};

// From completed configurations.
Limits LimitsFromConfig(const internal::v1::LimitsConfig& limits,
                        const internal::v1::ServerConfig& server);

// The public services over a backbone. Feeds the metrics' gauges from the backbone's state while it
// lives. Thread-safe; outlives the server that serves its services.
class Router {
 public:
  explicit Router(const RouterOptions& options);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // GenerationService and CatalogService; owned by the router.
  std::vector<grpc::Service*> services();
  // AdminService, for the experts of the router's backbone. `host` outlives it, and the router
  // does.
  std::unique_ptr<grpc::Service> NewAdminService(ExpertHost* host, rpc::UploadOptions uploads);

  // Refuses new requests with UNAVAILABLE (DRAINING) and waits for those that run. False when
  // `timeout` passed before the last one ended: those left then end with DRAINING too.
  bool Drain(absl::Duration timeout);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::router
