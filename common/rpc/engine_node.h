#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/compute/device.h"
#include "common/model/expert_package.h"
#include "common/model/model.h"
#include "common/rpc/link_client.h"
#include "common/rpc/link_handshake.h"
#include "common/rpc/server.h"
#include "common/runtime/engine.h"
#include "common/telemetry/metrics.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::internal::v1 {
class EngineConfig;
class ServerConfig;
}  // namespace ccoe::internal::v1

// What the processes at both ends of a link have in common besides the link.
namespace ccoe::rpc {

// Hands what an engine and its links do to the metrics, and the links' states to the log.
class NodeObserver final : public runtime::EngineObserver, public LinkObserver {
 public:
  explicit NodeObserver(telemetry::Metrics& metrics) : metrics_(metrics) {}
  // Called after each change of a link's state or experts; set before the links start.
  void SetLinkListener(std::function<void()> listener) { link_listener_ = std::move(listener); }

  void OnStep(const runtime::StepReport& report) override;
  void OnStall(absl::Duration duration) override;
  void OnHiddenStatesSent(size_t bytes) override;
  void OnHiddenStatesReceived(size_t bytes) override;
  void OnRoundTrip(absl::Duration on_the_way) override;
  void OnLinkChanged(const std::string& address, const absl::Status& state) override;
  void OnExpertsChanged(const std::string& address) override;

 private:
  telemetry::Metrics& metrics_;
  std::function<void()> link_listener_;
};

struct LayerRange {
  int begin = 0;
  int end = 0;  // 0: all layers
};

// An engine over a range of layers, its metrics, and the packages that it serves. Members are in
// the order of construction: each outlives what follows it.
struct EngineNode {
  std::shared_ptr<const model::Model> model;
  std::string arithmetic;
  std::unique_ptr<telemetry::Metrics> metrics;
  std::unique_ptr<NodeObserver> observer;
  std::vector<std::shared_ptr<const model::ExpertPackage>> packages;
  std::unique_ptr<runtime::Engine> engine;
  LinkIdentity identity;

  // What the engine's own experts say of themselves.
  std::vector<internal::v1::ExpertDescription> DescribeExperts() const;
};

// What the expert of a package says of itself in an engine; its folder is read.
internal::v1::ExpertDescription DescribePackage(const runtime::Engine& engine,
                                                const model::ExpertPackage& package);

struct EngineNodeOptions {
  std::string service;  // "backbone" or "expert"
  std::string version;
  std::shared_ptr<const model::Model> model;
  std::vector<std::shared_ptr<const model::ExpertPackage>> packages;
  LayerRange layers;
  bool serve_general = true;
};

absl::StatusOr<std::shared_ptr<const model::Model>> LoadModel(
    const internal::v1::EngineConfig& config);

// The packages under `folder`; none for an empty name. A folder without any is worth a warning in
// the log. Errors as of model::LoadExpertFolder.
absl::StatusOr<std::vector<std::shared_ptr<const model::ExpertPackage>>> LoadExperts(
    const std::string& folder);

// Packs the weights: takes seconds. Errors as of compute::NewCpuDevice, runtime::Engine and
// model::ExpertPackage::CheckAgainst.
absl::StatusOr<EngineNode> StartEngineNode(const internal::v1::EngineConfig& config,
                                           EngineNodeOptions options);

// The ports of a node and their ready line.
struct NodePorts {
  std::unique_ptr<Server> server;
  std::unique_ptr<telemetry::MetricsServer> metrics;  // null: not asked for
  std::unique_ptr<Server> admin;                      // null: not asked for

  // "listening listen=ADDRESS [health=ADDRESS] [metrics=HOST:PORT] [admin=ADDRESS]\n"
  std::string ReadyLine() const;
};

absl::StatusOr<NodePorts> OpenPorts(const internal::v1::ServerConfig& config,
                                    telemetry::Metrics& metrics,
                                    std::vector<grpc::Service*> services);
// The port of a service that may change what is served; none for an empty address.
absl::Status OpenAdmin(const internal::v1::ServerConfig& config, const std::string& listen,
                       grpc::Service* service, NodePorts* ports);

}  // namespace ccoe::rpc
