#include "services/backbone/backbone_node.h"

#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/engine_node.h"
#include "common/rpc/link_client.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/tls.h"
#include "common/telemetry/log.h"
#include "services/backbone/backbone_service.h"
#include "services/backbone/expert_table.h"

namespace ccoe::backbone {
namespace {

using internal::v1::BackboneConfig;
using internal::v1::ServerConfig;

// The time that calls have to end after they were cancelled.
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);
// Start waits this long for the first attempts of the links.
constexpr absl::Duration kFirstLinks = absl::Seconds(2);

// What a router took must reach the backbone, where a prompt that is too long is counted; on the
// way the message grows by what the router adds.
ServerConfig WithoutMessageLimit(ServerConfig config) {
  config.set_max_message_bytes(-1);
  return config;
}

}  // namespace

absl::Status CheckConfig(const BackboneConfig& config) {
  if (config.layers() < 0) return absl::InvalidArgumentError("layers is negative");
  if (config.layers() > 0 && !config.experts().empty()) {
    return absl::InvalidArgumentError(
        "experts in this process need all layers: leave out layers or experts");
  }
  if (config.layers() > 0 && config.peers().empty()) {
    return absl::InvalidArgumentError(
        "a backbone with a part of the layers needs an expert process: name one in peers");
  }
  for (const BackboneConfig::Peer& peer : config.peers()) {
    CCOE_RETURN_IF_ERROR(rpc::CheckPeer("peers.address", peer.address()));
  }
  return rpc::CheckExperts(config.experts());
}

// In the order of construction: each outlives what follows it.
struct BackboneNode::State {
  absl::Duration drain_timeout;
  rpc::EngineNode node;
  std::unique_ptr<ExpertTable> experts;
  std::unique_ptr<BackboneService> service;
  std::vector<std::unique_ptr<rpc::LinkClient>> links;
  rpc::NodePorts ports;

  base::Mutex mutex;
  base::CondVar link_changed;
  rpc::Server* server ABSL_GUARDED_BY(mutex) = nullptr;  // while its health follows the links
  bool links_ready ABSL_GUARDED_BY(mutex) = false;       // the table holds all of them

  // After each change of a link, on its thread.
  void OnLinkChange() {
    base::MutexLock lock(&mutex);
    link_changed.SignalAll();
    if (!links_ready) return;
    service->ExpertsChanged();
    UpdateHealth();
  }

  // So that a backbone whose experts are up is whole when it says that it listens.
  void AwaitFirstLinks() {
    const absl::Time deadline = absl::Now() + kFirstLinks;
    base::MutexLock lock(&mutex);
    links_ready = true;
    while (!experts->AllTried() && absl::Now() < deadline) {
      link_changed.WaitFor(&mutex, absl::ToChronoNanoseconds(deadline - absl::Now()));
    }
  }

  void UpdateHealth() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (server == nullptr) return;
    server->SetHealth(experts->AnyConnected() ? rpc::Server::Health::kServing
                                              : rpc::Server::Health::kNotServing);
  }
};

absl::StatusOr<std::unique_ptr<BackboneNode>> BackboneNode::Start(const BackboneConfig& config) {
  const absl::Time start = absl::Now();
  CCOE_RETURN_IF_ERROR(CheckConfig(config));
  auto state = std::make_unique<State>();
  state->drain_timeout = rpc::FromProto(config.server().drain_timeout());
  rpc::EngineNodeOptions options;
  options.service = "backbone";
  options.version = CCOE_VERSION;
  CCOE_ASSIGN_OR_RETURN(options.model, rpc::LoadModel(config.engine()));
  CCOE_ASSIGN_OR_RETURN(options.packages, rpc::LoadExperts(config.experts()));
  options.layers.end = config.layers();
  CCOE_ASSIGN_OR_RETURN(state->node, rpc::StartEngineNode(config.engine(), std::move(options)));
  rpc::EngineNode& node = state->node;

  state->experts = std::make_unique<ExpertTable>(node.DescribeExperts());
  state->service = std::make_unique<BackboneService>(BackboneServiceOptions{
      node.model, node.engine.get(), node.identity, state->experts.get(), CCOE_VERSION});
  // From here on the node's destructor ends what was started, in its order.
  std::unique_ptr<BackboneNode> backbone(new BackboneNode(std::move(state)));
  State& running = *backbone->state_;
  node.observer->SetLinkListener([&running] { running.OnLinkChange(); });
  const auto credentials = rpc::PeerCredentials(config.peer_tls());
  for (const BackboneConfig::Peer& peer : config.peers()) {
    rpc::LinkClientOptions link;
    link.address = peer.address();
    link.credentials = credentials;
    link.identity = node.identity;
    link.engine = node.engine.get();
    link.observer = node.observer.get();
    running.links.push_back(std::make_unique<rpc::LinkClient>(std::move(link)));
    running.experts->AddLink(*running.links.back());
  }
  running.AwaitFirstLinks();
  CCOE_ASSIGN_OR_RETURN(running.ports, rpc::OpenPorts(WithoutMessageLimit(config.server()),
                                                      *node.metrics, {running.service->service()}));
  {
    base::MutexLock lock(&running.mutex);
    running.server = running.ports.server.get();
    running.service->ExpertsChanged();
    running.UpdateHealth();
  }
  telemetry::LogInfo("serving", {{"listen", running.ports.server->address()},
                                 {"layer_end", node.identity.layer_end},
                                 {"links", running.links.size()},
                                 {"version", CCOE_VERSION},
                                 {"start_ms", absl::Now() - start}});
  return backbone;
}

BackboneNode::BackboneNode(std::unique_ptr<State> state) : state_(std::move(state)) {}

// The order that links ask for: the gRPC server, the links' streams, the engine, the links.
BackboneNode::~BackboneNode() {
  {
    base::MutexLock lock(&state_->mutex);
    state_->server = nullptr;
    state_->links_ready = false;
  }
  state_->ports.metrics.reset();
  state_->node.metrics->SetGaugeSource(nullptr);
  state_->service->EndWatches();
  state_->ports.server.reset();
  for (const auto& link : state_->links) link->Stop();
  state_->node.engine.reset();
}

std::string BackboneNode::ReadyLine() const { return state_->ports.ReadyLine(); }

bool BackboneNode::Drain() {
  {
    base::MutexLock lock(&state_->mutex);
    state_->server = nullptr;
  }
  state_->ports.server->SetHealth(rpc::Server::Health::kNotServing);
  state_->node.metrics->SetDraining();
  state_->service->SetDraining();
  const bool finished = state_->node.engine->Drain(state_->drain_timeout);
  state_->service->EndWatches();
  state_->ports.server->Shutdown(kShutdownGrace);
  return finished;
}

}  // namespace ccoe::backbone
