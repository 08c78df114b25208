#include "services/router/transitions.h"

#include <algorithm>
#include <utility>

#include "services/router/convert.h"

namespace ccoe::router {

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
  entry.info.healthy = false;
  v1::ExpertVersion version;
  *version.mutable_expert() = ExpertProto(entry);
  version.set_state(v1::VERSION_STATE_LOADING);
  base::MutexLock lock(&owner_.mutex_);
  place_ = owner_.loading_.insert(owner_.loading_.end(), std::move(version));
  begun_ = true;
}

void Transitions::Loading::SetProgress(double part) {
  base::MutexLock lock(&owner_.mutex_);
  place_->set_progress(part);
}

void Transitions::AddDraining(const CatalogEntry& entry) {
  if (entry.lease == nullptr) return;
  CatalogEntry leaving = entry;
  leaving.info.healthy = false;
  Draining draining;
  *draining.version.mutable_expert() = ExpertProto(leaving);
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

}  // namespace ccoe::router
