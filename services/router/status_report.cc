#include "services/router/status_report.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/types/span.h"

namespace ccoe::router {
namespace {

v1::ServedExpert ServedProto(const CatalogEntry& entry) {
  v1::ServedExpert served;
  served.set_name(entry.info.key.name);
  served.set_version(entry.info.key.version);
  served.set_domain(entry.info.domain);
  if (entry.active_requests != nullptr) served.set_active_requests(*entry.active_requests);
  return served;
}

// Of a catalog's experts those with these keys.
void AddExperts(const Catalog& catalog, absl::Span<const runtime::ExpertKey> keys, v1::Node* node) {
  for (const CatalogEntry& entry : catalog.experts) {
    if (std::find(keys.begin(), keys.end(), entry.info.key) == keys.end()) continue;
    *node->add_experts() = ServedProto(entry);
  }
}

void SetLoad(const runtime::EngineStats& stats, v1::Node* node) {
  v1::NodeLoad& load = *node->mutable_load();
  load.set_sessions_running(stats.sessions_running);
  load.set_sessions_waiting(stats.sessions_waiting);
  load.set_kv_blocks_total(stats.kv_pages_total);
  load.set_kv_blocks_used(stats.kv_pages_used);
}

// `away`: why none of them can be used; empty: they can.
void AddProcesses(const Catalog& catalog, absl::Span<const ExpertProcess> processes,
                  const std::string& away, v1::GetStatusResponse* response) {
  for (const ExpertProcess& process : processes) {
    v1::Node& node = *response->add_nodes();
    node.set_role(v1::NODE_ROLE_EXPERT);
    node.set_address(process.address);
    node.set_healthy(away.empty());
    node.set_message(away);
    AddExperts(catalog, process.experts, &node);
  }
}

void AddServer(const Backbone& backbone, v1::GetStatusResponse* response) {
  v1::Node& node = *response->add_nodes();
  node.set_role(v1::NODE_ROLE_SERVER);
  node.set_healthy(true);
  const std::shared_ptr<const Catalog> catalog = backbone.GetCatalog();
  for (const CatalogEntry& entry : catalog->experts) *node.add_experts() = ServedProto(entry);
  SetLoad(backbone.Stats(), &node);
}

void AddSplit(const Backbone& backbone, v1::GetStatusResponse* response) {
  v1::Node& router = *response->add_nodes();
  router.set_role(v1::NODE_ROLE_ROUTER);
  router.set_healthy(true);

  const absl::Status health = backbone.Health();
  v1::Node& node = *response->add_nodes();
  node.set_role(v1::NODE_ROLE_BACKBONE);
  node.set_address(backbone.Address());
  node.set_healthy(health.ok());
  node.set_message(std::string(health.message()));
  const std::shared_ptr<const Catalog> catalog = backbone.GetCatalog();
  if (catalog == nullptr) return;
  AddExperts(*catalog, catalog->backbone_experts, &node);
  if (health.ok()) SetLoad(backbone.Stats(), &node);
  AddProcesses(*catalog, catalog->processes, health.ok() ? "" : "the backbone is away", response);
  AddProcesses(*catalog, catalog->absent_processes, "the backbone is not connected to it",
               response);
}

}  // namespace

v1::GetStatusResponse StatusReport(RouterCore* core) {
  v1::GetStatusResponse response;
  const telemetry::Metrics& metrics = core->metrics();
  response.set_active_requests(core->admission().active());
  response.set_prompt_tokens(metrics.TotalTokens(telemetry::TokenKind::kPrompt));
  response.set_cached_tokens(metrics.TotalTokens(telemetry::TokenKind::kCached));
  response.set_generated_tokens(metrics.TotalTokens(telemetry::TokenKind::kGenerated));
  const Backbone& backbone = core->backbone();
  backbone.IsInThisProcess() ? AddServer(backbone, &response) : AddSplit(backbone, &response);
  return response;
}

}  // namespace ccoe::router
