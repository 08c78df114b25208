#include "services/expert/expert_node.h"

#include <grpcpp/impl/service_type.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/model/expert_package.h"
#include "common/rpc/config.h"
#include "common/rpc/engine_node.h"
#include "common/rpc/link_server.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/upload_config.h"
#include "common/telemetry/log.h"
#include "services/expert/package_service.h"

namespace ccoe::expert {
namespace {

using internal::v1::ExpertConfig;
using Packages = std::vector<std::shared_ptr<const model::ExpertPackage>>;

// The time that links have to end after they were told to.
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

bool ServesGeneral(const ExpertConfig& config) {
  return config.general() || config.packages().empty();
}

absl::StatusOr<Packages> LoadPackages(const ExpertConfig& config) {
  Packages packages;
  for (const std::string& folder : config.packages()) {
    CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const model::ExpertPackage> package,
                          model::ExpertPackage::Load(folder));
    packages.push_back(std::move(package));
  }
  return packages;
}

// The first layer that the process owns.
int FirstLayer(const ExpertConfig& config, const Packages& packages) {
  if (config.layer_begin() > 0) return config.layer_begin();
  int first = packages.front()->manifest().attach_depth;
  for (const auto& package : packages) first = std::min(first, package->manifest().attach_depth);
  return first;
}

// Whether the engine has the base model's layers: for `general` and for LoRA experts.
bool HasBaseLayers(const ExpertConfig& config, const Packages& packages) {
  return ServesGeneral(config) ||
         std::any_of(packages.begin(), packages.end(), [](const auto& package) {
           return package->manifest().kind == model::ExpertKind::kLora;
         });
}

}  // namespace

absl::Status CheckConfig(const ExpertConfig& config) {
  if (config.layer_begin() < 0) return absl::InvalidArgumentError("layer_begin is negative");
  if (config.packages().empty() && config.layer_begin() == 0) {
    return absl::InvalidArgumentError(
        "nothing to serve: name expert packages, or layer_begin to serve `general` from there");
  }
  for (const std::string& folder : config.packages()) {
    CCOE_RETURN_IF_ERROR(rpc::CheckExists("packages", folder));
  }
  return absl::OkStatus();
}

// In the order of construction: each outlives what follows it.
struct ExpertNode::State {
  absl::Duration drain_timeout;
  rpc::EngineNode node;
  std::unique_ptr<rpc::LinkServer> links;
  std::unique_ptr<grpc::Service> packages;
  rpc::NodePorts ports;
};

absl::StatusOr<std::unique_ptr<ExpertNode>> ExpertNode::Start(const ExpertConfig& config) {
  const absl::Time start = absl::Now();
  CCOE_RETURN_IF_ERROR(CheckConfig(config));
  auto state = std::make_unique<State>();
  state->drain_timeout = rpc::FromProto(config.server().drain_timeout());
  rpc::EngineNodeOptions options;
  options.service = "expert";
  options.version = CCOE_VERSION;
  CCOE_ASSIGN_OR_RETURN(options.model, rpc::LoadModel(config.engine()));
  CCOE_ASSIGN_OR_RETURN(options.packages, LoadPackages(config));
  options.layers.begin = FirstLayer(config, options.packages);
  options.serve_general = ServesGeneral(config);
  CCOE_ASSIGN_OR_RETURN(state->node, rpc::StartEngineNode(config.engine(), std::move(options)));

  rpc::LinkServerOptions links;
  links.identity = state->node.identity;
  links.engine = state->node.engine.get();
  links.experts = state->node.DescribeExperts();
  const int layer_begin = state->node.identity.layer_begin;
  links.base_begin = HasBaseLayers(config, state->node.packages) ? layer_begin : 0;
  links.observer = state->node.observer.get();
  const std::vector<internal::v1::ExpertDescription> experts = links.experts;
  const int base_begin = links.base_begin;
  state->links = std::make_unique<rpc::LinkServer>(std::move(links));
  state->packages =
      NewPackageService({state->node.model, state->node.engine.get(), state->links.get(),
                         layer_begin, base_begin, rpc::UploadsOf(config)});
  state->node.packages.clear();  // the engine has them, until they are popped
  state->node.metrics->SetGaugeSource(
      [engine = state->node.engine.get(), links = state->links.get()] {
        const runtime::EngineStats stats = engine->Stats();
        telemetry::GaugeValues values;
        values.kv_blocks_used = stats.kv_pages_used;
        values.kv_blocks_free = stats.kv_pages_free();
        values.sessions_running = links->sessions();
        return values;
      });
  CCOE_ASSIGN_OR_RETURN(state->ports,
                        rpc::OpenPorts(config.server(), *state->node.metrics,
                                       {state->links->service(), state->packages.get()}));
  std::string names;
  for (const auto& expert : experts) {
    absl::StrAppend(&names, names.empty() ? "" : ",", expert.expert().name(), "@",
                    expert.attach_depth());
  }
  telemetry::LogInfo("serving", {{"listen", state->ports.server->address()},
                                 {"experts", names},
                                 {"layer_begin", layer_begin},
                                 {"version", CCOE_VERSION},
                                 {"start_ms", absl::Now() - start}});
  return std::unique_ptr<ExpertNode>(new ExpertNode(std::move(state)));
}

ExpertNode::ExpertNode(std::unique_ptr<State> state) : state_(std::move(state)) {}

// The order that a LinkServer asks for: the gRPC server, the links, the engine.
ExpertNode::~ExpertNode() {
  state_->ports.metrics.reset();
  state_->node.metrics->SetGaugeSource(nullptr);
  state_->ports.server.reset();
  state_->links->Stop();
  state_->node.engine.reset();
}

std::string ExpertNode::ReadyLine() const { return state_->ports.ReadyLine(); }

bool ExpertNode::Drain() {
  state_->ports.server->SetHealth(rpc::Server::Health::kNotServing);
  state_->node.metrics->SetDraining();
  state_->node.engine->Drain(absl::ZeroDuration());  // new sessions are refused from now on
  const bool finished = state_->links->Drain(state_->drain_timeout);
  state_->links->Stop();
  state_->ports.server->Shutdown(kShutdownGrace);
  return finished;
}

}  // namespace ccoe::expert
