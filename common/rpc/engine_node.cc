#include "common/rpc/engine_node.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/tls.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using internal::v1::EngineConfig;
using internal::v1::ServerConfig;

telemetry::StepPhase PhaseOf(runtime::Phase phase) {
  switch (phase) {
    case runtime::Phase::kPrefill:
      return telemetry::StepPhase::kPrefill;
    case runtime::Phase::kDecode:
      return telemetry::StepPhase::kDecode;
    case runtime::Phase::kMixed:
      break;
  }
  return telemetry::StepPhase::kMixed;
}

std::string ReadManifest(const model::ExpertPackage& package) {
  std::ifstream file(absl::StrCat(package.folder(), "/expert.json"), std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

telemetry::GaugeValues GaugesOf(const runtime::Engine& engine) {
  const runtime::EngineStats stats = engine.Stats();
  telemetry::GaugeValues values;
  values.kv_blocks_used = stats.kv_pages_used;
  values.kv_blocks_cached = stats.kv_pages_cached;
  values.kv_blocks_free = stats.kv_pages_free();
  values.boundary_state_bytes = stats.boundary_bytes_used;
  values.sessions_running = stats.sessions_running;
  values.sessions_waiting = stats.sessions_waiting;
  return values;
}

}  // namespace

void NodeObserver::OnStep(const runtime::StepReport& report) {
  metrics_.ObserveStep(PhaseOf(report.phase), report.duration, report.sessions);
}

void NodeObserver::OnStall(absl::Duration duration) {
  metrics_.AddStall(telemetry::Stream::kLink, duration);
}

void NodeObserver::OnHiddenStatesSent(size_t bytes) {
  metrics_.AddHiddenStateBytes(telemetry::Direction::kSent, bytes);
}

void NodeObserver::OnHiddenStatesReceived(size_t bytes) {
  metrics_.AddHiddenStateBytes(telemetry::Direction::kReceived, bytes);
}

void NodeObserver::OnRoundTrip(absl::Duration on_the_way) {
  metrics_.ObserveHiddenStateSend(on_the_way / 2);
}

void NodeObserver::OnLinkChanged(const std::string& address, const absl::Status& state) {
  if (state.ok()) {
    telemetry::LogInfo("link_up", {{"expert", address}});
  } else {
    telemetry::LogWarning("link_down", {{"expert", address},
                                        {"code", absl::StatusCodeToString(state.code())},
                                        {"reason", base::EntryOf(base::ReasonOf(state)).name},
                                        {"message", std::string(state.message())}});
  }
  if (link_listener_) link_listener_();
}

void NodeObserver::OnExpertsChanged(const std::string& address) {
  telemetry::LogInfo("experts_changed", {{"expert", address}});
  if (link_listener_) link_listener_();
}

std::vector<internal::v1::ExpertDescription> EngineNode::DescribeExperts() const {
  std::vector<internal::v1::ExpertDescription> descriptions;
  for (const runtime::ExpertInfo& info : engine->Experts()) {
    std::string manifest;
    bool local = info.package_digest.empty();
    for (const auto& package : packages) {
      if (engine->Describe(*package).package_digest != info.package_digest) continue;
      manifest = ReadManifest(*package);
      local = true;
    }
    if (local) descriptions.push_back(DescribeExpert(info, manifest));
  }
  return descriptions;
}

internal::v1::ExpertDescription DescribePackage(const runtime::Engine& engine,
                                                const model::ExpertPackage& package) {
  return DescribeExpert(engine.Describe(package), ReadManifest(package));
}

absl::StatusOr<std::shared_ptr<const model::Model>> LoadModel(const EngineConfig& config) {
  model::LoadOptions options;
  options.chat_template = config.chat_template();
  return model::Model::Load(config.model(), options);
}

absl::StatusOr<std::vector<std::shared_ptr<const model::ExpertPackage>>> LoadExperts(
    const std::string& folder) {
  std::vector<std::shared_ptr<const model::ExpertPackage>> packages;
  if (folder.empty()) return packages;
  CCOE_ASSIGN_OR_RETURN(packages, model::LoadExpertFolder(folder));
  if (packages.empty()) {
    telemetry::LogWarning(
        "no_experts", {{"folder", folder}, {"message", "no folder in it holds an expert.json"}});
  }
  return packages;
}

absl::StatusOr<EngineNode> StartEngineNode(const EngineConfig& config, EngineNodeOptions options) {
  EngineNode node;
  node.model = std::move(options.model);
  node.packages = std::move(options.packages);
  for (const auto& package : node.packages) {
    CCOE_RETURN_IF_ERROR(package->CheckAgainst(*node.model));
  }
  compute::CpuOptions cpu;
  CCOE_ASSIGN_OR_RETURN(cpu.arithmetic, ArithmeticOf(config));
  cpu.threads = config.threads();
  node.arithmetic = std::string(compute::ArithmeticName(cpu.arithmetic));
  node.metrics = std::make_unique<telemetry::Metrics>(
      telemetry::MetricsOptions{options.service, options.version, node.arithmetic});
  node.observer = std::make_unique<NodeObserver>(*node.metrics);

  const model::ModelConfig& shape = node.model->config();
  node.metrics->SetModel(shape.name, std::string(model::FamilyName(shape.family)),
                         node.model->digest());
  runtime::EngineOptions engine;
  engine.model = node.model;
  CCOE_ASSIGN_OR_RETURN(engine.device, compute::NewCpuDevice(cpu));
  engine.layer_begin = options.layers.begin;
  engine.layer_end = options.layers.end == 0 ? shape.layers : options.layers.end;
  engine.serve_general = options.serve_general;
  engine.kv_budget_bytes = static_cast<size_t>(config.kv_cache_mib()) << 20;
  engine.max_sessions = config.max_sessions();
  engine.max_waiting = config.max_waiting();
  engine.max_step_rows = config.max_step_rows();
  engine.max_context = config.max_context();
  engine.prefix_cache = config.prefix_cache();
  engine.quantize_experts = config.quantize_experts();
  engine.observer = node.observer.get();

  node.identity.base_digest = node.model->digest();
  node.identity.arithmetic = node.arithmetic;
  node.identity.layers = shape.layers;
  node.identity.hidden = shape.hidden;
  node.identity.vocab = shape.vocab;
  node.identity.layer_begin = engine.layer_begin;
  node.identity.layer_end = engine.layer_end;
  node.identity.max_context =
      engine.max_context > 0 ? std::min(engine.max_context, shape.context) : shape.context;
  node.identity.node = options.service;

  CCOE_ASSIGN_OR_RETURN(node.engine, runtime::Engine::Create(std::move(engine)));
  for (const auto& package : node.packages) CCOE_RETURN_IF_ERROR(node.engine->AddExpert(package));
  node.model->ReleasePages();
  node.metrics->SetGaugeSource([engine = node.engine.get()] { return GaugesOf(*engine); });
  return node;
}

std::string NodePorts::ReadyLine() const {
  std::string line = absl::StrCat("listening listen=", server->address());
  if (!server->health_address().empty()) {
    absl::StrAppend(&line, " health=", server->health_address());
  }
  if (metrics != nullptr) absl::StrAppend(&line, " metrics=", metrics->address());
  if (admin != nullptr) absl::StrAppend(&line, " admin=", admin->address());
  return line + "\n";
}

absl::StatusOr<NodePorts> OpenPorts(const ServerConfig& config, telemetry::Metrics& metrics,
                                    std::vector<grpc::Service*> services) {
  NodePorts ports;
  ServerOptions options;
  options.listen = config.listen();
  options.health_listen = config.health_listen();
  options.max_message_bytes = config.max_message_bytes();
  options.credentials = ServerCredentials(config.tls());
  options.services = std::move(services);
  CCOE_ASSIGN_OR_RETURN(ports.server, Server::Start(options));
  if (const std::string& file = config.tls().certificate(); !file.empty()) {
    metrics.WatchCertificate(
        [file] { return CertificateExpiry(file).value_or(absl::UnixEpoch()); });
  }
  if (const std::string& listen = config.metrics_listen(); !listen.empty()) {
    CCOE_ASSIGN_OR_RETURN(ports.metrics, telemetry::MetricsServer::Start(listen, metrics));
  }
  return ports;
}

absl::Status OpenAdmin(const ServerConfig& config, const std::string& listen,
                       grpc::Service* service, NodePorts* ports) {
  if (listen.empty()) return absl::OkStatus();
  ServerOptions options;
  options.credentials = ServerCredentials(config.tls());
  options.listen = listen;
  options.services = {service};
  CCOE_ASSIGN_OR_RETURN(ports->admin, Server::Start(options));
  return absl::OkStatus();
}

}  // namespace ccoe::rpc
