#include "services/router/transitions.h"

#include <algorithm>
#include <utility>

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

void Transitions::AddDraining(const CatalogEntry& entry) {
  if (entry.lease == nullptr) return;
  Draining draining;
  *draining.version.mutable_expert() = ExpertProto(entry);
  draining.version.mutable_expert()->set_state(v1::EXPERT_STATE_DRAINING);
  draining.version.set_state(v1::VERSION_STATE_DRAINING);
  draining.version.set_progress(1);
  draining.active_requests = entry.active_requests;
  draining.lease = entry.lease;
  base::MutexLock lock(&mutex_);
  const bool known = std::any_of(draining_.begin(), draining_.end(), [&](const Draining& other) {
    return other.active_requests == entry.active_requests;
  });
  if (!known) draining_.push_back(std::move(draining));
}

std::vector<v1::ExpertVersion> Transitions::ListLoading() const {
  base::MutexLock lock(&mutex_);
  return {loading_.begin(), loading_.end()};
}

std::vector<v1::ExpertVersion> Transitions::ListDraining() {
  base::MutexLock lock(&mutex_);
  std::erase_if(draining_, [](const Draining& draining) { return draining.lease.expired(); });
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
