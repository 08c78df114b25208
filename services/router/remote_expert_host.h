#pragma once

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/router/expert_host.h"

namespace ccoe::router {

class RemoteBackbone;

// The expert processes that a push comes to, by address: those that are asked for, or those that
// serve its domain, or where nobody does all that compute the layers from its attach depth on; of
// the latter those that do not have the version yet. A pure function. INVALID_ARGUMENT for one that
// is not connected or comes twice; FAILED_PRECONDITION when there are none; ALREADY_EXISTS when all
// have it.
absl::StatusOr<std::vector<std::string>> NodesFor(const Catalog& catalog,
                                                  const model::ExpertManifest& manifest,
                                                  const std::vector<std::string>& asked);

// The expert processes of a backbone elsewhere.
class RemoteExpertHost final : public ExpertHost {
 public:
  // `backbone` outlives it; `credentials` for the expert processes, null for plaintext. A push or a
  // pop has come through when the backbone tells of it, which may take `news_timeout`.
  RemoteExpertHost(RemoteBackbone* backbone, std::shared_ptr<grpc::ChannelCredentials> credentials,
                   absl::Duration news_timeout = absl::Seconds(10))
      : backbone_(*backbone), credentials_(std::move(credentials)), news_timeout_(news_timeout) {}

  // By the base model's digest and depth alone; the expert processes check the rest. A package that
  // is served may come to further ones.
  absl::StatusOr<CatalogEntry> Check(
      const std::shared_ptr<const model::ExpertPackage>& package) const override;
  // All nodes take it, or none. UNAVAILABLE besides, for one that is not reached, or a backbone
  // that does not tell of the expert in time.
  absl::Status Push(const std::shared_ptr<const model::ExpertPackage>& package,
                    const PushOptions& options) override;
  // UNAVAILABLE for a node that is not reached; the others have let it go. FAILED_PRECONDITION when
  // no expert process that is connected serves it.
  absl::StatusOr<absl::Duration> Pop(const runtime::ExpertKey& expert) override;
  absl::Status SetTraffic(const std::string& domain,
                          absl::Span<const VersionWeight> weights) override;

 private:
  RemoteBackbone& backbone_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  const absl::Duration news_timeout_;
};

}  // namespace ccoe::router
