#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ccoe/internal/v1/session.pb.h"
#include "services/router/backbone.h"
#include "services/router/catalog.h"

namespace ccoe::router {

// What a backbone has told of its experts; without what is the router's own.
std::vector<CatalogEntry> EntriesOf(const internal::v1::WatchResponse& response);

// The catalog of a backbone in another process: made anew of what that tells, with what is this
// router's own and stays: the weights of versions, and which requests are under way. Not
// thread-safe.
class RemoteCatalog {
 public:
  // Null before the first Update.
  const std::shared_ptr<const Catalog>& Get() const { return catalog_; }

  void Update(const ModelDescription& model, std::vector<CatalogEntry> entries,
              const internal::v1::WatchResponse& response);
  // As router::SetWeights. The weights of experts that are away for a while stay as well. Requires
  // that there was an Update.
  absl::Status SetTraffic(const std::string& domain, absl::Span<const VersionWeight> weights);
  // Takes the weight of an expert that is pushed or popped.
  void ForgetWeight(const runtime::ExpertKey& expert);

 private:
  struct Weight {
    std::string domain;
    int value = 0;
  };
  // The counter of an expert that is listed, or a new one.
  std::shared_ptr<std::atomic<int>> RequestsOf(const runtime::ExpertInfo& info) const;

  std::shared_ptr<const Catalog> catalog_;
  std::map<runtime::ExpertKey, Weight> weights_;
};

}  // namespace ccoe::router
