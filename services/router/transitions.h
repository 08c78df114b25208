#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "ccoe/v1/admin_service.pb.h"
#include "common/base/mutex.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// Experts on their way into a catalog or out of it. Thread-safe.
class Transitions {
 public:
  // An expert that is being loaded, as long as this lives. Outlived by the Transitions.
  class Loading {
   public:
    explicit Loading(Transitions* owner) : owner_(*owner) {}
    ~Loading();
    Loading(const Loading&) = delete;
    Loading& operator=(const Loading&) = delete;

    // Lists it, once it is known which it is.
    void Begin(const model::ExpertManifest& manifest);
    // The part of its weights that is verified, in [0, 1]. After Begin.
    void SetProgress(double part);

   private:
    Transitions& owner_;
    std::list<v1::ExpertVersion>::iterator place_;
    bool begun_ = false;
  };

  // Lists an expert that is about to leave the catalog, until its lease ends, or without one its
  // last request, and at least until `until`. Again: `until` alone counts.
  void AddDraining(const CatalogEntry& entry, absl::Time until);
  // It has come back, or has not left.
  void DropDraining(const CatalogEntry& entry);

  std::vector<v1::ExpertVersion> ListLoading() const;
  std::vector<v1::ExpertVersion> ListDraining();

 private:
  struct Draining {
    v1::ExpertVersion version;
    std::shared_ptr<const std::atomic<int>> active_requests;
    std::optional<std::weak_ptr<const void>> lease;
    absl::Time until;
  };

  mutable base::Mutex mutex_;
  std::list<v1::ExpertVersion> loading_ ABSL_GUARDED_BY(mutex_);
  std::vector<Draining> draining_ ABSL_GUARDED_BY(mutex_);
};

// Every expert by domain, name and version: those of the backbone's catalog, which is there, those
// on their way into it and those on their way out of it.
std::vector<v1::ExpertVersion> AllVersions(const Backbone& backbone, Transitions& transitions);

}  // namespace ccoe::router
