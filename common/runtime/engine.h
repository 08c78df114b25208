#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/compute/device.h"
#include "common/model/expert_package.h"
#include "common/model/model.h"
#include "common/runtime/remote.h"
#include "common/runtime/session.h"

namespace ccoe::runtime {

enum class Phase { kPrefill, kDecode, kMixed };

// What one step did, for metrics.
struct StepReport {
  Phase phase = Phase::kDecode;
  int sessions = 0;
  int rows = 0;
  absl::Duration duration;
};

// Called on the engine's thread; must not block.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  // After every step.
  virtual void OnStep(const StepReport& report) = 0;
  // Rows had stood ready for so long for a link without credit.
  virtual void OnStall(absl::Duration /*duration*/) {}
};

struct EngineOptions {
  std::shared_ptr<const model::Model> model;
  std::unique_ptr<compute::Device> device;
  int layer_begin = 0;
  int layer_end = 0;  // 0: all layers
  // Whether the base model's own upper layers are an expert here. Without it and without LoRA
  // packages an expert node does not load them. Ignored by a range that ends below the last layer.
  bool serve_general = true;
  size_t kv_budget_bytes = size_t{1} << 30;  // KV pages, allocated at start
  // Boundary states of undecided sessions, of those whose rows leave for an expert elsewhere, and
  // of those with several steps, allocated as needed. 0: twice as many rows as the KV pool has
  // positions in all layers. In addition to kv_budget_bytes.
  size_t boundary_budget_bytes = 0;
  // Whether sessions of this engine's clients leave their KV pages, and states at the experts'
  // attach depths, to those that begin with the same tokens, as long as nobody else wants the
  // pages. Keeps at most twice as many bytes of states as the budget above.
  bool prefix_cache = true;
  // In one step. As many run, and beyond them those of keys that have less than their share: then
  // others pause by turns, and hold their memory.
  int max_sessions = 256;
  int max_waiting = 256;    // queued for blocks
  int max_step_rows = 256;  // rows of one step
  int max_context = 0;      // positions of a session; 0: the model's
  // Quantises the float matrices of full packages, each as the base model's own is. Such an expert
  // gives other tokens than the package as it is, so its package_digest is another.
  bool quantize_experts = false;
  EngineObserver* observer = nullptr;  // may be null; outlives the engine
};

// An expert that an engine can end a session with.
struct ExpertInfo {
  ExpertKey key;
  std::string domain;
  std::string description;
  std::string package_digest;  // pins what computes; empty for `general`
  int attach_depth = 0;
  bool healthy = true;  // false: known, but no replica is connected
};

struct EngineStats {
  int sessions_running = 0;
  int sessions_waiting = 0;
  int kv_pages_total = 0;
  int kv_pages_used = 0;    // by sessions
  int kv_pages_cached = 0;  // by none, and kept as long as none wants them
  // The rest; the counts are not of one instant.
  int kv_pages_free() const {
    return std::max(0, kv_pages_total - kv_pages_used - kv_pages_cached);
  }
  size_t kv_page_bytes = 0;
  size_t boundary_bytes_used = 0;  // reserved for boundary states
  size_t weights_bytes = 0;        // of the base layers and the experts here
};

// Owns a contiguous range of base layers, any number of experts, one device and one KV pool, and
// the thread that computes. Sessions of all experts are batched together; a row runs as far as it
// can here and leaves through the link where its path goes on elsewhere.
//
//   range [0, L)   everything in one process
//   range [0, k)   a backbone: rows leave at their expert's attach depth through a RemoteExpert
//   range [k, L)   an expert node: rows enter through FeedRows, tokens leave through RemoteListener
//
// All methods are thread-safe; effects happen on the engine's thread in the order of the calls.
// Destruction fails the remaining sessions with UNAVAILABLE and joins the thread.
class Engine {
 public:
  // INVALID_ARGUMENT for impossible ranges; RESOURCE_EXHAUSTED when the weights or the KV budget do
  // not fit.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(EngineOptions options);
  virtual ~Engine() = default;

  // How an expert of the package is listed.
  virtual ExpertInfo Describe(const model::ExpertPackage& package) const = 0;
  // Adds an expert whose layers [attach_depth, L) lie in the engine's range. Sessions stand still
  // while its weights are packed. The package must have passed CheckAgainst. ALREADY_EXISTS,
  // INVALID_ARGUMENT.
  virtual absl::Status AddExpert(std::shared_ptr<const model::ExpertPackage> package) = 0;

  // Takes an expert of AddExpert away: new sessions are refused, those that have it keep it to
  // their end, and with the last of them its memory goes. NOT_FOUND; INVALID_ARGUMENT for
  // another's.
  virtual absl::Status RemoveExpert(const ExpertKey& expert) = 0;

  // Backbone: adds a replica of an expert served elsewhere, or takes it away. Its sessions go on at
  // another replica of the expert that they have not left yet, with the same answer; where there is
  // none, or `why` is not UNAVAILABLE, they fail with it. `replica` outlives its removal.
  virtual absl::Status AddReplica(const ExpertInfo& expert, RemoteExpert* replica) = 0;
  virtual void RemoveReplica(RemoteExpert* replica, absl::Status why) = 0;
  // Backbone: takes a replica from the sessions to come. Those that are there stay, and where it is
  // its expert's last those that are open may still come: they wait for it, or are to be decided.
  // RemoteExpert::Forget tells when none of them is left, unless the replica is removed before.
  virtual void RetireReplica(RemoteExpert* replica) = 0;

  virtual std::vector<ExpertInfo> Experts() const = 0;
  virtual EngineStats Stats() const = 0;

  // Opens a session. Fails at once with INVALID_ARGUMENT (prompt or limits), NOT_FOUND (unknown
  // expert), UNAVAILABLE (known but without a replica, or draining), RESOURCE_EXHAUSTED (queue
  // full); then the listener is not called. Otherwise `listener` hears of the rest. An undecided
  // session's routing layer is computed here and below the last one.
  virtual absl::StatusOr<SessionId> Open(SessionSpec spec, SessionListener* listener) = 0;
  // Decides for an undecided session, once. Errors as of Open come through OnFailed.
  virtual void Decide(SessionId session, ExpertKey expert) = 0;
  // Ends a session at the next step with OnFailed(CANCELLED or `why`); nothing if it has ended.
  virtual void Cancel(SessionId session, absl::Status why) = 0;
  // A paused session keeps its blocks and does not run. For clients that read slowly.
  virtual void Pause(SessionId session) = 0;
  virtual void Resume(SessionId session) = 0;

  // Expert node: the link's sessions. `session` is the link's own id, unique per listener.
  virtual void OpenRemote(SessionId session, RemoteSpec spec, RemoteListener* listener) = 0;
  virtual void FeedRows(RemoteListener* listener, std::vector<HiddenRows> rows) = 0;
  virtual void CloseRemote(RemoteListener* listener, SessionId session) = 0;
  // Closes all its sessions and waits until the engine has let go of the listener.
  virtual void DetachListener(RemoteListener* listener) = 0;

  // Backbone: what the link brings back. A session that is refused or fails with UNAVAILABLE goes
  // on at another replica, as in RemoveReplica.
  virtual void RemoteOpened(RemoteExpert* replica, SessionId session, absl::Status status) = 0;
  virtual void RemoteResults(RemoteExpert* replica, std::vector<RemoteResult> results) = 0;
  virtual void RemoteFailed(RemoteExpert* replica, SessionId session, absl::Status status) = 0;
  virtual void LinkReady(RemoteExpert* replica) = 0;

  // Refuses new sessions with UNAVAILABLE; returns true when none is left within `timeout`.
  virtual bool Drain(absl::Duration timeout) = 0;
};

}  // namespace ccoe::runtime
