#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "common/compute/device.h"
#include "common/model/expert_package.h"
#include "common/model/model.h"
#include "common/runtime/engine.h"
#include "services/router/backbone.h"
#include "services/router/expert_host.h"

namespace ccoe::router {

struct LocalBackboneOptions {
  std::shared_ptr<const model::Model> model;
  std::vector<std::shared_ptr<const model::ExpertPackage>> experts;  // beside `general`
  compute::CpuOptions cpu;
  size_t kv_budget_bytes = size_t{1} << 30;
  int max_sessions = 256;
  int max_waiting = 256;
  int max_step_rows = 256;
  int max_context = 0;                          // 0: the model's
  bool prefix_cache = true;                     // as of runtime::EngineOptions
  bool quantize_experts = false;                // as of runtime::EngineOptions
  runtime::EngineObserver* observer = nullptr;  // may be null; outlives the backbone
};

// A backbone in this process: one engine with every layer and every expert. Experts come and go
// while it serves: what a request resolves to stays until the request has ended.
class LocalBackbone final : public Backbone, public ExpertHost {
 public:
  // Packs all weights: takes seconds. FAILED_PRECONDITION when a package does not belong to the
  // model; other errors as of runtime::Engine and compute::NewCpuDevice.
  static absl::StatusOr<std::unique_ptr<LocalBackbone>> Create(LocalBackboneOptions options);
  ~LocalBackbone() override;

  absl::StatusOr<CatalogEntry> Check(
      const std::shared_ptr<const model::ExpertPackage>& package) const override;
  // It has no nodes to choose from.
  absl::Status Push(const std::shared_ptr<const model::ExpertPackage>& package,
                    const PushOptions& options) override;
  // Its memory goes with the last of the requests that have it.
  absl::StatusOr<absl::Duration> Pop(const runtime::ExpertKey& expert) override;
  absl::Status SetTraffic(const std::string& domain,
                          absl::Span<const VersionWeight> weights) override;

  std::shared_ptr<const Catalog> GetCatalog() const override;
  absl::Status Health() const override { return absl::OkStatus(); }
  runtime::EngineStats Stats() const override { return engine_->Stats(); }
  bool IsInThisProcess() const override { return true; }
  std::string Address() const override { return ""; }
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
  struct Leases;  // what ends with the engine
  class Lease;

  LocalBackbone(std::shared_ptr<const model::Model> model, std::unique_ptr<runtime::Engine> engine,
                ModelDescription description);

  const std::shared_ptr<const model::Model> model_;
  const std::unique_ptr<runtime::Engine> engine_;
  const std::shared_ptr<Leases> leases_;  // they may outlive this
  const int context_tokens_;
  mutable base::Mutex mutex_;
  std::shared_ptr<const Catalog> catalog_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::router
