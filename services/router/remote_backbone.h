#pragma once

#include <grpcpp/security/credentials.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "services/router/backbone.h"
#include "services/router/catalog.h"

namespace ccoe::router {

struct RemoteBackboneOptions {
  std::string address;  // of the backbone process, "host:port"
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;  // null: plaintext
  // For a call without a time limit of its own, and for reaching the backbone.
  absl::Duration call_timeout = absl::Seconds(10);
  absl::Duration min_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(5);
};

// A backbone in another process, over BackboneService. Connects in the background and again when
// the connection is lost; sessions that were open then fail with CONNECTION_LOST.
class RemoteBackbone final : public Backbone {
 public:
  explicit RemoteBackbone(RemoteBackboneOptions options);
  // Fails the sessions that are open and waits for their listeners.
  ~RemoteBackbone() override;

  // Waits until the backbone was reached for the first time; false when `timeout` passed before.
  bool WaitUntilReached(absl::Duration timeout);
  // Waits for a catalog that meets a condition, which is asked again at each change; false when
  // `timeout` passed before.
  bool WaitForCatalog(const std::function<bool(const Catalog&)>& condition, absl::Duration timeout);

  // Shares a domain's requests out among its experts, in this router alone; as router::SetWeights.
  // UNAVAILABLE until the backbone was reached.
  absl::Status SetTraffic(const std::string& domain, absl::Span<const VersionWeight> weights);
  // Of an expert that is pushed or popped: another of its name and version begins without weight.
  void ForgetWeight(const runtime::ExpertKey& expert);

  std::shared_ptr<const Catalog> GetCatalog() const override;
  absl::Status Health() const override;
  runtime::EngineStats Stats() const override;
  bool IsInThisProcess() const override { return false; }
  std::string Address() const override;
  std::string TokenBytes(int32_t id) const override;
  void Tokenize(runtime::PromptInput input, absl::Time deadline,
                std::function<void(absl::StatusOr<std::vector<TokenPiece>>)> done) override;
  absl::StatusOr<runtime::SessionId> Open(SessionRequest request,
                                          runtime::SessionListener* listener) override;
  void Decide(runtime::SessionId session, runtime::ExpertKey expert) override;
  void Cancel(runtime::SessionId session, absl::Status why) override;
  void Pause(runtime::SessionId session) override;
  void Resume(runtime::SessionId session) override;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::router
