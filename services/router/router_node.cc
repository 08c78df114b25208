#include "services/router/router_node.h"

#include <grpcpp/impl/service_type.h>

#include <utility>

#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/engine_node.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/tls.h"
#include "common/rpc/upload_config.h"
#include "common/telemetry/log.h"
#include "services/router/api_keys.h"
#include "services/router/health_follower.h"
#include "services/router/key_ring.h"
#include "services/router/remote_backbone.h"
#include "services/router/remote_expert_host.h"
#include "services/router/router.h"

namespace ccoe::router {
namespace {

using internal::v1::RouterConfig;

// The first request need not fail because the backbone has not been reached yet.
constexpr absl::Duration kFirstContact = absl::Seconds(5);
// The time that calls have to end after they were cancelled.
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

}  // namespace

absl::Status CheckConfig(const RouterConfig& config) {
  if (config.backbone().empty()) {
    return absl::InvalidArgumentError("backbone is missing: the address of a backbone process");
  }
  CCOE_RETURN_IF_ERROR(rpc::CheckPeer("backbone", config.backbone()));
  return CheckApiKeys("api_keys", config.api_keys());
}

// In the order of construction: each outlives what follows it.
struct RouterNode::State {
  State(const RouterConfig& config, std::unique_ptr<KeyRing> key_ring)
      : drain_timeout(rpc::FromProto(config.server().drain_timeout())),
        keys(std::move(key_ring)),
        metrics({"router", CCOE_VERSION, ""}),
        credentials(rpc::PeerCredentials(config.peer_tls())),
        backbone({.address = config.backbone(), .credentials = credentials}),
        host(&backbone, credentials),
        router({&backbone, &metrics, LimitsFromConfig(config.limits(), config.server()),
                CCOE_VERSION, keys.get()}),
        admin(router.NewAdminService(&host, rpc::UploadsOf(config))) {}

  const absl::Duration drain_timeout;
  const std::unique_ptr<KeyRing> keys;  // null: no key is asked for
  telemetry::Metrics metrics;
  const std::shared_ptr<grpc::ChannelCredentials> credentials;
  RemoteBackbone backbone;
  RemoteExpertHost host;
  Router router;
  std::unique_ptr<grpc::Service> admin;
  rpc::NodePorts ports;
  std::unique_ptr<HealthFollower> health;  // until the drain
};

absl::StatusOr<std::unique_ptr<RouterNode>> RouterNode::Start(const RouterConfig& config) {
  CCOE_RETURN_IF_ERROR(CheckConfig(config));
  CCOE_ASSIGN_OR_RETURN(std::unique_ptr<KeyRing> keys, KeyRing::Open(config.api_keys()));
  auto state = std::make_unique<State>(config, std::move(keys));
  if (!state->backbone.WaitUntilReached(kFirstContact)) {
    telemetry::LogWarning("backbone_not_reached",
                          {{"backbone", config.backbone()},
                           {"message", std::string(state->backbone.Health().message())}});
  }
  CCOE_ASSIGN_OR_RETURN(state->ports,
                        rpc::OpenPorts(config.server(), state->metrics, state->router.services()));
  CCOE_RETURN_IF_ERROR(
      rpc::OpenAdmin(config.server(), config.admin_listen(), state->admin.get(), &state->ports));
  telemetry::LogInfo("serving", {{"listen", state->ports.server->address()},
                                 {"backbone", config.backbone()},
                                 {"version", CCOE_VERSION}});
  state->health = std::make_unique<HealthFollower>(state->backbone, *state->ports.server);
  return std::unique_ptr<RouterNode>(new RouterNode(std::move(state)));
}

RouterNode::RouterNode(std::unique_ptr<State> state) : state_(std::move(state)) {}

RouterNode::~RouterNode() = default;

std::string RouterNode::ReadyLine() const { return state_->ports.ReadyLine(); }

bool RouterNode::Drain() {
  state_->health.reset();
  state_->ports.server->SetHealth(rpc::Server::Health::kNotServing);
  const bool finished = state_->router.Drain(state_->drain_timeout);
  if (state_->ports.admin != nullptr) state_->ports.admin->Shutdown(kShutdownGrace);
  state_->ports.server->Shutdown(kShutdownGrace);
  return finished;
}

}  // namespace ccoe::router
