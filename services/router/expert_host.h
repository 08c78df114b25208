#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/model/expert_package.h"
#include "services/router/catalog.h"

namespace ccoe::router {

struct PushOptions {
  // Expert processes that are to serve it, by address; empty: the host chooses.
  std::vector<std::string> nodes;
  bool validate_only = false;  // checks it and serves nothing
};

// Where experts are pushed to and popped from: this process, or expert processes elsewhere.
// Thread-safe. Calls wait for what they cause; not for gRPC's callbacks.
class ExpertHost {
 public:
  virtual ~ExpertHost() = default;

  // How the expert of a package would be listed, as far as it can be told here. FAILED_PRECONDITION
  // when it does not belong to the model, ALREADY_EXISTS when name and version are listed or still
  // leaving.
  virtual absl::StatusOr<CatalogEntry> Check(
      const std::shared_ptr<const model::ExpertPackage>& package) const = 0;
  // Adds an expert; the catalog lists it once this returns OK. Errors as of Check, and
  // INVALID_ARGUMENT for nodes that there are none of; then nothing has changed.
  virtual absl::Status Push(const std::shared_ptr<const model::ExpertPackage>& package,
                            const PushOptions& options) = 0;
  // Takes an expert out of the catalog, which lists it no more once this returns OK; requests that
  // have it go on to their end. Returns how long it stays at least. `expert` is not `general`.
  // NOT_FOUND.
  virtual absl::StatusOr<absl::Duration> Pop(const runtime::ExpertKey& expert) = 0;
  // Shares a domain's requests out among its experts; as router::SetWeights.
  virtual absl::Status SetTraffic(const std::string& domain,
                                  absl::Span<const VersionWeight> weights) = 0;
};

}  // namespace ccoe::router
