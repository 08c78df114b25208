#include "services/cli/node.h"

#include <grpcpp/channel.h>
#include <grpcpp/impl/codegen/service_type.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/compute/device.h"
#include "common/model/expert_package.h"
#include "common/model/model.h"
#include "common/rpc/config.h"
#include "common/rpc/engine_node.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/upload_config.h"
#include "common/runtime/engine.h"
#include "common/telemetry/metrics.h"
#include "services/gateway/gateway.h"
#include "services/router/api_keys.h"
#include "services/router/key_ring.h"
#include "services/router/local_backbone.h"
#include "services/router/router.h"

namespace ccoe::cli {
namespace {

using internal::v1::EngineConfig;
using internal::v1::ServeConfig;

// The time that calls have to end after they were cancelled.
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

// Hands what the engine does to the metrics.
class StepObserver final : public runtime::EngineObserver {
 public:
  explicit StepObserver(telemetry::Metrics& metrics) : metrics_(metrics) {}

  void OnStep(const runtime::StepReport& report) override {
    metrics_.ObserveStep(PhaseOf(report.phase), report.duration, report.sessions);
  }

 private:
  static telemetry::StepPhase PhaseOf(runtime::Phase phase) {
    switch (phase) {
      case runtime::Phase::kPrefill:
        return telemetry::StepPhase::kPrefill;
      case runtime::Phase::kDecode:
        return telemetry::StepPhase::kDecode;
      case runtime::Phase::kMixed:
        return telemetry::StepPhase::kMixed;
    }
    return telemetry::StepPhase::kMixed;
  }

  telemetry::Metrics& metrics_;
};

absl::StatusOr<std::unique_ptr<router::LocalBackbone>> LoadBackbone(
    const Node::Options& options, runtime::EngineObserver* observer) {
  const EngineConfig& config = options.config.engine();
  model::LoadOptions load;
  load.chat_template = config.chat_template();
  load.progress = options.progress;
  router::LocalBackboneOptions backbone;
  backbone.model = options.model;
  if (backbone.model == nullptr) {
    CCOE_ASSIGN_OR_RETURN(backbone.model, model::Model::Load(config.model(), load));
  }
  CCOE_ASSIGN_OR_RETURN(backbone.experts, rpc::LoadExperts(options.config.experts()));
  if (options.package != nullptr) backbone.experts.push_back(options.package);
  CCOE_ASSIGN_OR_RETURN(backbone.cpu.arithmetic, rpc::ArithmeticOf(config));
  backbone.cpu.threads = config.threads();
  backbone.kv_budget_bytes = static_cast<size_t>(config.kv_cache_mib()) << 20;
  backbone.max_sessions = config.max_sessions();
  backbone.max_waiting = config.max_waiting();
  backbone.max_step_rows = config.max_step_rows();
  backbone.max_context = config.max_context();
  backbone.prefix_cache = config.prefix_cache();
  backbone.quantize_experts = config.quantize_experts();
  backbone.observer = observer;
  return router::LocalBackbone::Create(std::move(backbone));
}

}  // namespace

absl::Status CompleteServeConfig(ServeConfig* config) {
  CCOE_RETURN_IF_ERROR(rpc::CompleteConfig(config->mutable_server()));
  CCOE_RETURN_IF_ERROR(rpc::CompleteConfig(config->mutable_engine()));
  CCOE_RETURN_IF_ERROR(rpc::CheckExperts(config->experts()));
  CCOE_RETURN_IF_ERROR(rpc::CheckListen("admin_listen", config->admin_listen()));
  CCOE_RETURN_IF_ERROR(rpc::CompleteUploads(config));
  CCOE_RETURN_IF_ERROR(rpc::CompleteConfig(config->mutable_http()));
  CCOE_RETURN_IF_ERROR(router::CheckApiKeys("api_keys", config->api_keys()));
  return rpc::CompleteConfig(config->mutable_limits());
}

// In the order of construction: each outlives what follows it.
struct Node::State {
  absl::Duration drain_timeout;
  std::unique_ptr<router::KeyRing> keys;  // null: no key is asked for
  std::unique_ptr<telemetry::Metrics> metrics;
  std::unique_ptr<StepObserver> observer;
  std::unique_ptr<router::LocalBackbone> backbone;
  std::unique_ptr<router::Router> router;
  std::unique_ptr<grpc::Service> admin;
  rpc::NodePorts ports;
  std::unique_ptr<gateway::Gateway> http;  // null: not asked for
};

absl::StatusOr<std::unique_ptr<Node>> Node::Start(const Options& options) {
  const ServeConfig& config = options.config;
  auto state = std::make_unique<State>();
  state->drain_timeout = rpc::FromProto(config.server().drain_timeout());
  CCOE_ASSIGN_OR_RETURN(state->keys, router::KeyRing::Open(config.api_keys()));
  CCOE_ASSIGN_OR_RETURN(const compute::Arithmetic arithmetic, rpc::ArithmeticOf(config.engine()));
  state->metrics = std::make_unique<telemetry::Metrics>(telemetry::MetricsOptions{
      "serve", CCOE_VERSION, std::string(compute::ArithmeticName(arithmetic))});
  state->observer = std::make_unique<StepObserver>(*state->metrics);
  CCOE_ASSIGN_OR_RETURN(state->backbone, LoadBackbone(options, state->observer.get()));
  const std::shared_ptr<const router::Catalog> catalog = state->backbone->GetCatalog();
  state->metrics->SetModel(catalog->model.name, catalog->model.family, catalog->model.digest);
  state->router = std::make_unique<router::Router>(router::RouterOptions{
      state->backbone.get(), state->metrics.get(),
      router::LimitsFromConfig(config.limits(), config.server()), CCOE_VERSION, state->keys.get()});
  CCOE_ASSIGN_OR_RETURN(
      state->ports, rpc::OpenPorts(config.server(), *state->metrics, state->router->services()));
  state->admin = state->router->NewAdminService(state->backbone.get(), rpc::UploadsOf(config));
  CCOE_RETURN_IF_ERROR(
      rpc::OpenAdmin(config.server(), config.admin_listen(), state->admin.get(), &state->ports));
  if (!config.http().listen().empty()) {
    CCOE_ASSIGN_OR_RETURN(
        state->http, gateway::Gateway::Start(
                         {config.http(), static_cast<size_t>(config.server().max_message_bytes()),
                          state->ports.server->InProcessChannel(), state->metrics.get()}));
  }
  return std::unique_ptr<Node>(new Node(std::move(state)));
}

Node::Node(std::unique_ptr<State> state) : state_(std::move(state)) {}

Node::~Node() = default;

std::shared_ptr<grpc::Channel> Node::InProcessChannel() {
  return state_->ports.server->InProcessChannel();
}

const std::string& Node::address() const { return state_->ports.server->address(); }
std::string Node::http_address() const {
  return state_->http == nullptr ? "" : state_->http->address();
}

std::string Node::ReadyLine() const {
  std::string line = state_->ports.ReadyLine();
  if (state_->http != nullptr) {
    line.insert(line.size() - 1, absl::StrCat(" http=", http_address()));
  }
  return line;
}

std::string Node::DescribeExperts() const {
  std::string text;
  for (const router::CatalogEntry& entry : state_->backbone->GetCatalog()->experts) {
    const runtime::ExpertKey& key = entry.info.key;
    absl::StrAppend(&text, text.empty() ? "" : ", ", key.name, key.version.empty() ? "" : " ",
                    key.version);
  }
  return text;
}

bool Node::Drain() {
  state_->ports.server->SetHealth(rpc::Server::Health::kNotServing);
  if (state_->http != nullptr) state_->http->StartDraining();
  const bool finished = state_->router->Drain(state_->drain_timeout);
  if (state_->http != nullptr) state_->http->Drain(kShutdownGrace);
  if (state_->ports.admin != nullptr) state_->ports.admin->Shutdown(kShutdownGrace);
  state_->ports.server->Shutdown(kShutdownGrace);
  return finished;
}

}  // namespace ccoe::cli
