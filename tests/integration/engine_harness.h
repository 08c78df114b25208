#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "common/runtime/engine.h"

// What integration tests of the engine share: a listener that collects, engines of tiny models, and
// a link between two engines without a wire.
namespace ccoe::testing {

// tests/goldens/tiny/<name>; dies when it cannot be loaded.
std::shared_ptr<const model::Model> TinyModel(const std::string& name);
std::shared_ptr<const model::ExpertPackage> TinyPackage(const std::string& name);
// The same with texts of its expert.json replaced.
std::shared_ptr<const model::ExpertPackage> TinyPackage(
    const std::string& name, const std::vector<std::pair<std::string, std::string>>& replaced);
// The model that CCOE_MODEL names, or null when it is not set.
std::shared_ptr<const model::Model> RealModel();

struct EngineSetup {
  compute::CpuOptions cpu;
  int layer_begin = 0;
  int layer_end = 0;
  bool serve_general = true;
  int max_step_rows = 256;
  int max_sessions = 256;
  int max_waiting = 256;
  size_t kv_budget_bytes = size_t{16} << 20;
  size_t boundary_budget_bytes = 0;
  bool prefix_cache = true;
  bool quantize_experts = false;
  runtime::EngineObserver* observer = nullptr;
};
std::unique_ptr<runtime::Engine> MakeEngine(std::shared_ptr<const model::Model> model,
                                            const EngineSetup& setup);

// The likeliest tokens of a place, to compare.
inline std::vector<std::pair<int32_t, float>> Likeliest(const runtime::GeneratedToken& token) {
  std::vector<std::pair<int32_t, float>> top;
  top.reserve(token.top.size());
  for (const runtime::TokenLogprob& likely : token.top) top.emplace_back(likely.id, likely.logprob);
  return top;
}

// Collects one session's events.
class Collector final : public runtime::SessionListener {
 public:
  void OnRouteState(absl::Span<const float> pooled) override;
  void OnAdmitted() override { admitted = true; }
  void OnDelta(const runtime::Delta& delta) override;
  void OnStepFinished(const runtime::Finished& finished) override;
  void OnFinished(const runtime::Finished& finished) override;
  void OnFailed(const absl::Status& status) override;

  // Waits for the end; false after some minutes.
  bool Wait();
  // Waits until `count` tokens have come or the session has ended.
  void WaitForTokens(size_t count);
  // Called before Open, or while it holds: the engine stands still once `count` tokens have come,
  // until Release. What a test does in between, the engine sees before it goes on.
  void HoldAfter(size_t count);
  void Release();

  // Set before Open: what to do with an undecided session's state.
  std::function<void(absl::Span<const float> pooled)> on_route_state;

  // After Wait.
  std::vector<float> pooled;
  bool admitted = false;
  absl::Status status;
  std::optional<runtime::Finished> finished;
  std::vector<runtime::Finished> steps;  // but the last
  std::vector<runtime::GeneratedToken> tokens;
  std::string text;
  std::vector<int32_t> Ids() const;

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  bool ended_ = false;
  bool held_ = false;
  size_t hold_after_ = 0;
  size_t token_count_ = 0;
};

// Connects a backbone's engine with an expert's, in one process: what a link does, without a wire.
// Lifetime: Cut it, destroy the backbone's engine, the expert's, then this.
class LoopbackLink final : public runtime::RemoteExpert, public runtime::RemoteListener {
 public:
  explicit LoopbackLink(int credit_rows) : credit_rows_(credit_rows) {}
  // Adds `expert` to the backbone.
  absl::Status Connect(runtime::Engine* backbone, runtime::Engine* expert_engine,
                       const runtime::ExpertInfo& expert);
  // As when the expert's process dies: neither engine hears from the other any more. Again:
  // nothing.
  void Cut();

  int CreditRows() const override;
  void OpenSession(runtime::SessionId session, const runtime::RemoteSpec& spec) override;
  void Send(std::vector<runtime::HiddenRows> rows) override;
  void CloseSession(runtime::SessionId session) override;
  void Forget() override { forgotten_ = true; }

  void OnOpened(runtime::SessionId session, const absl::Status& status) override;
  void OnResults(std::vector<runtime::RemoteResult> results) override;
  void OnFailed(runtime::SessionId session, const absl::Status& status) override;
  void OnConsumed(int rows) override;

  int max_in_flight() const { return max_in_flight_; }
  bool forgotten() const { return forgotten_; }

 private:
  const int credit_rows_;
  std::atomic<bool> cut_{false};
  std::atomic<bool> forgotten_{false};
  std::atomic<int> in_flight_{0};
  std::atomic<int> max_in_flight_{0};
  runtime::Engine* backbone_ = nullptr;
  runtime::Engine* expert_ = nullptr;
};

}  // namespace ccoe::testing
