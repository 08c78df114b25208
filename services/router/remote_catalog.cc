#include "services/router/remote_catalog.h"

#include <utility>

#include "absl/strings/string_view.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_handshake.h"
#include "common/telemetry/log.h"

namespace ccoe::router {
namespace {

// The replica that is the backbone itself.
constexpr absl::string_view kInBackbone = "local";

CatalogEntry EntryOf(const internal::v1::ExpertStatus& status) {
  CatalogEntry entry;
  entry.info = rpc::ExpertInfoOf(status.description());
  entry.info.healthy = false;
  for (const internal::v1::ExpertReplica& replica : status.replicas()) {
    if (!replica.connected()) continue;
    entry.info.healthy = true;
    if (replica.id() != kInBackbone) entry.nodes.push_back(replica.id());
  }
  if (const std::string& json = status.description().manifest_json(); !json.empty()) {
    auto manifest = model::ParseExpertManifest(json, entry.info.key.name);
    if (manifest.ok()) {
      entry.manifest = std::make_shared<const model::ExpertManifest>(*std::move(manifest));
    } else {
      telemetry::LogWarning("expert_manifest", {{"expert", entry.info.key.name},
                                                {"message", manifest.status().ToString()}});
    }
  }
  return entry;
}

// The experts that have a replica there, whether it is connected or not.
std::vector<runtime::ExpertKey> ExpertsAt(absl::string_view replica_id,
                                          const internal::v1::WatchResponse& response) {
  std::vector<runtime::ExpertKey> experts;
  for (const internal::v1::ExpertStatus& status : response.experts()) {
    for (const internal::v1::ExpertReplica& replica : status.replicas()) {
      if (replica.id() == replica_id) {
        experts.push_back(rpc::ExpertInfoOf(status.description()).key);
      }
    }
  }
  return experts;
}

}  // namespace

std::vector<CatalogEntry> EntriesOf(const internal::v1::WatchResponse& response) {
  std::vector<CatalogEntry> entries;
  entries.reserve(response.experts_size());
  for (const auto& status : response.experts()) entries.push_back(EntryOf(status));
  return entries;
}

void RemoteCatalog::Update(const ModelDescription& model, std::vector<CatalogEntry> entries,
                           const internal::v1::WatchResponse& response) {
  auto catalog = std::make_shared<Catalog>();
  catalog->model = model;
  catalog->experts = std::move(entries);
  for (CatalogEntry& entry : catalog->experts) {
    const auto weight = weights_.find(entry.info.key);
    if (weight != weights_.end()) entry.weight = weight->second.value;
    entry.active_requests = RequestsOf(entry.info);
  }
  for (const internal::v1::ExpertProcess& process : response.processes()) {
    auto& processes = process.connected() ? catalog->processes : catalog->absent_processes;
    processes.push_back(
        {process.address(), process.layer_begin(), ExpertsAt(process.address(), response)});
  }
  catalog->backbone_experts = ExpertsAt(kInBackbone, response);
  catalog_ = std::move(catalog);
}

std::shared_ptr<std::atomic<int>> RemoteCatalog::RequestsOf(const runtime::ExpertInfo& info) const {
  if (catalog_ != nullptr) {
    for (const CatalogEntry& known : catalog_->experts) {
      if (known.info.key == info.key && known.info.package_digest == info.package_digest) {
        return known.active_requests;
      }
    }
  }
  return std::make_shared<std::atomic<int>>(0);
}

absl::Status RemoteCatalog::SetTraffic(const std::string& domain,
                                       absl::Span<const VersionWeight> weights) {
  auto catalog = std::make_shared<Catalog>(*catalog_);
  CCOE_RETURN_IF_ERROR(SetWeights(domain, weights, catalog.get()));
  std::erase_if(weights_, [&](const auto& known) { return known.second.domain == domain; });
  for (const CatalogEntry& entry : catalog->experts) {
    if (entry.weight > 0) weights_[entry.info.key] = {entry.info.domain, entry.weight};
  }
  catalog_ = std::move(catalog);
  return absl::OkStatus();
}

void RemoteCatalog::ForgetWeight(const runtime::ExpertKey& expert) { weights_.erase(expert); }

}  // namespace ccoe::router
