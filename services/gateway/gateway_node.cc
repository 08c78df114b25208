#include "services/gateway/gateway_node.h"

#include <grpcpp/channel.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/channel.h"
#include "common/rpc/config.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/tls.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "services/gateway/gateway.h"

namespace ccoe::gateway {

using internal::v1::GatewayConfig;

absl::Status CheckConfig(const GatewayConfig& config) {
  if (config.router().empty()) {
    return absl::InvalidArgumentError("router is missing: the address of a router process");
  }
  if (config.http().listen().empty()) {
    return absl::InvalidArgumentError("http.listen is missing: the address to serve at");
  }
  if (!config.server().listen().empty() || !config.server().health_listen().empty()) {
    return absl::InvalidArgumentError(
        "server.listen and server.health_listen: a gateway speaks no gRPC to clients; http.listen "
        "is its address, and /healthz tells its health");
  }
  if (config.server().has_tls()) {
    return absl::InvalidArgumentError(
        "server.tls: a gateway speaks plain HTTP; put what ends TLS in front of it");
  }
  return rpc::CheckPeer("router", config.router());
}

// In the order of construction: each outlives what follows it.
struct GatewayNode::State {
  explicit State(const GatewayConfig& config)
      : drain_timeout(rpc::FromProto(config.server().drain_timeout())),
        metrics({"gateway", CCOE_VERSION, ""}) {}

  const absl::Duration drain_timeout;
  telemetry::Metrics metrics;
  std::unique_ptr<Gateway> gateway;
  std::unique_ptr<telemetry::MetricsServer> metrics_server;  // null: not asked for
};

absl::StatusOr<std::unique_ptr<GatewayNode>> GatewayNode::Start(const GatewayConfig& config) {
  CCOE_RETURN_IF_ERROR(CheckConfig(config));
  auto state = std::make_unique<State>(config);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // it is our own router
  CCOE_ASSIGN_OR_RETURN(
      state->gateway,
      Gateway::Start(
          {config.http(), static_cast<size_t>(config.server().max_message_bytes()),
           rpc::MakeChannel(config.router(), rpc::PeerCredentials(config.peer_tls()), arguments),
           &state->metrics}));
  if (const std::string& listen = config.server().metrics_listen(); !listen.empty()) {
    CCOE_ASSIGN_OR_RETURN(state->metrics_server,
                          telemetry::MetricsServer::Start(listen, state->metrics));
  }
  telemetry::LogInfo("serving", {{"http", state->gateway->address()},
                                 {"router", config.router()},
                                 {"version", CCOE_VERSION}});
  return std::unique_ptr<GatewayNode>(new GatewayNode(std::move(state)));
}

GatewayNode::GatewayNode(std::unique_ptr<State> state) : state_(std::move(state)) {}

GatewayNode::~GatewayNode() = default;

std::string GatewayNode::ReadyLine() const {
  std::string line = absl::StrCat("listening http=", state_->gateway->address());
  if (state_->metrics_server != nullptr) {
    absl::StrAppend(&line, " metrics=", state_->metrics_server->address());
  }
  return line + "\n";
}

bool GatewayNode::Drain() {
  state_->metrics.SetDraining();
  return state_->gateway->Drain(state_->drain_timeout);
}

}  // namespace ccoe::gateway
