#include "services/router/transitions.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "services/router/catalog.h"
#include "services/router/convert.h"

namespace ccoe::router {
namespace {

v1::ExpertVersion ServingProto(const Catalog& catalog, const CatalogEntry& entry) {
  v1::ExpertVersion proto;
  *proto.mutable_expert() = ExpertProto(entry);
  proto.set_state(v1::VERSION_STATE_SERVING);
  proto.set_progress(1);
  proto.set_weight(entry.weight);
  proto.set_share(ShareOf(catalog, entry));
  if (entry.active_requests != nullptr) proto.set_active_requests(*entry.active_requests);
  return proto;
}

}  // namespace

Transitions::Loading::~Loading() {
  base::MutexLock lock(&owner_.mutex_);
  if (begun_) owner_.loading_.erase(place_);
}

void Transitions::Loading::Begin(const model::ExpertManifest& manifest) {
  CatalogEntry entry;
  entry.info.key = {manifest.name, manifest.version};
  entry.info.domain = manifest.domain;
  entry.info.description = manifest.description;
  entry.info.attach_depth = manifest.attach_depth;
  v1::ExpertVersion version;
  *version.mutable_expert() = ExpertProto(entry);
  version.mutable_expert()->set_state(v1::EXPERT_STATE_LOADING);
  version.mutable_expert()->set_load_progress(0);
  version.set_state(v1::VERSION_STATE_LOADING);
  base::MutexLock lock(&owner_.mutex_);
  place_ = owner_.loading_.insert(owner_.loading_.end(), std::move(version));
  begun_ = true;
}

void Transitions::Loading::SetProgress(double part) {
  base::MutexLock lock(&owner_.mutex_);
  place_->set_progress(part);
  place_->mutable_expert()->set_load_progress(part);
}

void Transitions::AddDraining(const CatalogEntry& entry, absl::Time until) {
  Draining draining;
  *draining.version.mutable_expert() = ExpertProto(entry);
  draining.version.mutable_expert()->set_state(v1::EXPERT_STATE_DRAINING);
  draining.version.set_state(v1::VERSION_STATE_DRAINING);
  draining.version.set_progress(1);
  draining.active_requests = entry.active_requests;
  if (entry.lease != nullptr) draining.lease = entry.lease;
  draining.until = until;
  base::MutexLock lock(&mutex_);
  for (Draining& known : draining_) {
    if (known.active_requests != entry.active_requests) continue;
    known.until = until;
    return;
  }
  draining_.push_back(std::move(draining));
}

void Transitions::DropDraining(const CatalogEntry& entry) {
  const v1::Expert expert = ExpertProto(entry);
  base::MutexLock lock(&mutex_);
  std::erase_if(draining_, [&](const Draining& draining) {
    const v1::Expert& known = draining.version.expert();
    return known.name() == expert.name() && known.version() == expert.version();
  });
}

std::vector<v1::ExpertVersion> Transitions::ListLoading() const {
  base::MutexLock lock(&mutex_);
  return {loading_.begin(), loading_.end()};
}

std::vector<v1::ExpertVersion> Transitions::ListDraining() {
  const absl::Time now = absl::Now();
  base::MutexLock lock(&mutex_);
  std::erase_if(draining_, [&](const Draining& draining) {
    const bool free =
        draining.lease.has_value() ? draining.lease->expired() : *draining.active_requests == 0;
    return free && now >= draining.until;
  });
  std::vector<v1::ExpertVersion> versions;
  for (Draining& draining : draining_) {
    versions.push_back(draining.version);
    versions.back().set_active_requests(*draining.active_requests);
  }
  return versions;
}

std::vector<v1::ExpertVersion> AllVersions(const Backbone& backbone, Transitions& transitions) {
  // In the order of a version's life, so that one that goes on meanwhile is seen.
  std::vector<v1::ExpertVersion> all = transitions.ListLoading();
  const std::shared_ptr<const Catalog> catalog = backbone.GetCatalog();
  for (const CatalogEntry& entry : catalog->experts) all.push_back(ServingProto(*catalog, entry));
  for (v1::ExpertVersion& version : transitions.ListDraining()) all.push_back(std::move(version));
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return ComesFirst(a.expert(), b.expert()); });
  std::vector<v1::ExpertVersion> versions;
  versions.reserve(all.size());
  for (v1::ExpertVersion& version : all) {
    // One that was met in two states is in the later one.
    if (!versions.empty() && !ComesFirst(versions.back().expert(), version.expert())) {
      versions.pop_back();
    }
    versions.push_back(std::move(version));
  }
  return versions;
}

}  // namespace ccoe::router
