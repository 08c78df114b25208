#include "services/router/router.h"

#include <grpcpp/impl/service_type.h>

#include "ccoe/internal/v1/config.pb.h"
#include "common/base/error.h"
#include "common/rpc/proto_time.h"
#include "services/router/admin_service.h"
#include "services/router/catalog.h"
#include "services/router/catalog_service.h"
#include "services/router/generation_service.h"
#include "services/router/router_core.h"

namespace ccoe::router {
namespace {

// More than a step of the engine takes.
constexpr absl::Duration kCancelTime = absl::Seconds(5);

}  // namespace

Limits LimitsFromConfig(const internal::v1::LimitsConfig& limits,
                        const internal::v1::ServerConfig& server) {
  Limits result;
  result.max_queue_time = rpc::FromProto(limits.max_queue_time());
  result.max_request_time = rpc::FromProto(limits.max_request_time());
  result.max_prompt_tokens = limits.max_prompt_tokens();
  result.max_output_tokens = limits.max_output_tokens();
  result.max_message_bytes = server.max_message_bytes();
  result.max_active_requests = limits.max_active_requests();
  result.max_buffered_events = limits.max_buffered_events();
  result.slow_reader_timeout = rpc::FromProto(limits.slow_reader_timeout());
  return result;
}

struct Router::State {
  explicit State(const RouterOptions& options)
      : core(options.backbone, options.metrics, options.limits, options.keys),
        generation(NewGenerationService(&core)),
        catalog(NewCatalogService(&core, &transitions, options.version)) {}

  RouterCore core;
  Transitions transitions;
  std::unique_ptr<grpc::Service> generation;
  std::unique_ptr<grpc::Service> catalog;
};

Router::Router(const RouterOptions& options) : state_(std::make_unique<State>(options)) {
  RouterCore& core = state_->core;
  core.metrics().SetGaugeSource([&core] {
    const runtime::EngineStats stats = core.backbone().Stats();
    telemetry::GaugeValues values;
    if (core.backbone().IsInThisProcess()) {
      values.kv_blocks_used = stats.kv_pages_used;
      values.kv_blocks_cached = stats.kv_pages_cached;
      values.kv_blocks_free = stats.kv_pages_free();
      values.boundary_state_bytes = stats.boundary_bytes_used;
      values.sessions_running = stats.sessions_running;
      values.sessions_waiting = stats.sessions_waiting;
    }
    values.active_requests = core.admission().active();
    if (core.keys() != nullptr) {
      for (const std::shared_ptr<const Caller>& caller : core.keys()->Callers()) {
        values.keys.push_back({caller->name(), caller->active(), caller->tokens()});
      }
    }
    const bool reached = core.backbone().Health().ok();
    if (const auto catalog = core.backbone().GetCatalog(); catalog != nullptr) {
      for (const CatalogEntry& entry : catalog->experts) {
        const runtime::ExpertInfo& info = entry.info;
        values.experts.push_back(
            {info.domain, info.key.name, info.key.version, reached && info.healthy});
      }
    }
    return values;
  });
}

Router::~Router() { state_->core.metrics().SetGaugeSource(nullptr); }

std::vector<grpc::Service*> Router::services() {
  return {state_->generation.get(), state_->catalog.get()};
}

std::unique_ptr<grpc::Service> Router::NewAdminService(ExpertHost* host,
                                                       rpc::UploadOptions uploads) {
  return router::NewAdminService({&state_->core, &state_->transitions, host, std::move(uploads)});
}

bool Router::Drain(absl::Duration timeout) {
  state_->core.metrics().SetDraining();
  state_->core.admission().StartDraining();
  if (state_->core.admission().WaitUntilIdle(timeout)) return true;
  state_->core.CancelAll(
      base::MakeError(base::Reason::kDraining, "the server shut down before the request was done"));
  state_->core.admission().WaitUntilIdle(kCancelTime);
  return false;
}

}  // namespace ccoe::router
