#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/bounded_queue.h"
#include "common/base/mutex.h"
#include "common/runtime/boundary_states.h"
#include "common/runtime/engine.h"
#include "common/runtime/expert_directory.h"
#include "common/runtime/fair_queue.h"
#include "common/runtime/prefix_cache.h"
#include "common/runtime/scheduler.h"
#include "common/runtime/sequence.h"
#include "common/runtime/stall_clock.h"
#include "common/runtime/transformer.h"
#include "common/runtime/waiting_room.h"

namespace ccoe::runtime {

// What a client is asked to wait when the queue was full or too slow.
inline constexpr absl::Duration kQueueRetryDelay = absl::Seconds(1);

// The engine: a thread that takes commands from its inbox, admits what waits, and runs one step
// after another (engine_step.cc). All sequences belong to that thread.
class EngineImpl final : public Engine {
 public:
  explicit EngineImpl(EngineOptions options);
  ~EngineImpl() override;
  absl::Status Start();

  ExpertInfo Describe(const model::ExpertPackage& package) const override;
  absl::Status AddExpert(std::shared_ptr<const model::ExpertPackage> package) override;
  absl::Status RemoveExpert(const ExpertKey& expert) override;
  absl::Status AddReplica(const ExpertInfo& expert, RemoteExpert* replica) override;
  void RemoveReplica(RemoteExpert* replica, absl::Status why) override;
  void RetireReplica(RemoteExpert* replica) override;
  std::vector<ExpertInfo> Experts() const override { return directory_.List(); }
  EngineStats Stats() const override;

  absl::StatusOr<SessionId> Open(SessionSpec spec, SessionListener* listener) override;
  void Decide(SessionId session, ExpertKey expert) override;
  void Cancel(SessionId session, absl::Status why) override;
  void Pause(SessionId session) override { SetPaused(session, true); }
  void Resume(SessionId session) override { SetPaused(session, false); }

  void OpenRemote(SessionId session, RemoteSpec spec, RemoteListener* listener) override;
  void FeedRows(RemoteListener* listener, std::vector<HiddenRows> rows) override;
  void CloseRemote(RemoteListener* listener, SessionId session) override;
  void DetachListener(RemoteListener* listener) override;

  void RemoteOpened(RemoteExpert* replica, SessionId session, absl::Status status) override;
  void RemoteResults(RemoteExpert* replica, std::vector<RemoteResult> results) override;
  void RemoteFailed(RemoteExpert* replica, SessionId session, absl::Status status) override;
  void LinkReady(RemoteExpert* replica) override;

  bool Drain(absl::Duration timeout) override;

 private:
  using Command = std::function<void()>;
  using GuestKey = std::pair<RemoteListener*, SessionId>;

  // Any thread.
  void Post(Command command);
  absl::Status CheckSpec(const SessionSpec& spec) const;
  // `expert` is null for an undecided session.
  absl::Status CheckUsable(const SessionSpec& spec, const ExpertEntry* expert) const;
  absl::Status CheckRoom(const LocalSequence& sequence) const;
  int StemDepth(const SessionSpec& spec) const;
  absl::Status LoadBaseFor(const ExpertInfo& info, const model::ExpertPackage& package);
  int64_t PositionsOf(const SessionSpec& spec) const;
  absl::Status FindExperts(LocalSequence& sequence) const;
  std::map<int, int> KeptRows(const LocalSequence& sequence) const;
  void SetPaused(SessionId session, bool paused);

  // The engine's thread, engine_admit.cc.
  void AdmitWaiting();
  void FailOverdue(absl::Time now);
  void ReadmitMoved(absl::Time now);
  absl::Status AdmitNow(LocalSequence& sequence);
  struct KeyPlaces {
    int weight = 0;
    int running = 0;
    int pages = 0;  // of the KV pool; shared ones count for each session
  };
  struct Places {
    int running = 0;
    int weights = 0;  // of all keys that have sessions
    std::map<std::string, KeyPlaces> keys;
  };
  Places CountPlaces() const;
  bool IsBelowShare(const Places& places, const Flow& flow, int held) const;
  bool HasPlace(const Places& places, const LocalSequence& sequence) const;
  LocalSequence* NextToAdmit(absl::Time now, const Places& places);

  // The engine's thread, engine_loop.cc.
  void Loop();
  void ForgetReplicas();
  absl::Status Admit(LocalSequence& sequence);
  absl::Status Reserve(LocalSequence& sequence);
  void Requeue(LocalSequence& sequence);
  void MoveOrFail(LocalSequence& sequence, const absl::Status& why);
  absl::StatusOr<std::shared_ptr<const ExpertEntry>> FindFor(const LocalSequence& sequence,
                                                             const ExpertKey& key) const;
  absl::Status TakeDecision(LocalSequence& sequence, const ExpertKey& key);
  void LeaveStem(LocalSequence& sequence);
  void BeginNextStep(LocalSequence& sequence);
  static void RestartQueueTime(LocalSequence& sequence);
  void StartSession(LocalSequence& sequence);
  LocalSequence* FindLocal(SessionId session);
  LocalSequence* FindRemoteOf(RemoteExpert* replica, SessionId session);
  void Release(LocalSequence& sequence);
  void Fail(SessionId session, const absl::Status& why);
  void OpenGuest(SessionId session, const RemoteSpec& spec, RemoteListener* listener);
  void FeedGuest(RemoteListener* listener, HiddenRows rows);
  void CloseGuest(const GuestKey& key);
  void PublishUsage();

  // The engine's thread, engine_prefix.cc.
  struct Prefix;
  Prefix FindPrefix(const LocalSequence& sequence, const std::map<int, int>& kept) const;
  static void BeginAfter(const Prefix& prefix, LocalSequence& sequence);
  void SkipKnown(LocalSequence& sequence, BoundaryStates& leaving);
  void KeepPrefix(LocalSequence& sequence);
  std::map<int, StatePages> SparePages(const LocalSequence& sequence) const;

  // The engine's thread, engine_step.cc.
  bool Step();
  std::vector<std::pair<Sequence*, int>> Plan();
  std::vector<size_t> FairOrder(absl::Span<const FairQueue::Rank> ranks);
  void LeaveOutOthers(absl::Span<Sequence* const> ready, std::vector<size_t>& order) const;
  void ObserveStalls(absl::Span<RemoteExpert* const> links, absl::Span<const int> credit);
  void Replay(std::vector<std::pair<Sequence*, int>>& plan);
  void RunStep(absl::Span<const std::pair<Sequence*, int>> plan);
  void PoolRoute(LocalSequence& sequence, int position, absl::Span<const float> states);
  void DeliverLocal(LocalSequence& sequence, int rows);
  void AcceptToken(LocalSequence& sequence, GeneratedToken token);
  void AcceptScores(LocalSequence& sequence, std::vector<GeneratedToken> scores);
  void Finish(LocalSequence& sequence, FinishReason reason);
  void SendRemote();
  void AcceptRemote(RemoteExpert* replica, const RemoteResult& result);

  EngineOptions options_;
  BaseWeights base_;
  std::unique_ptr<KvPool> pool_;
  std::unique_ptr<PrefixCache> cache_;  // may be null
  std::unique_ptr<BoundaryStore> boundary_;
  std::unique_ptr<Transformer> transformer_;
  ExpertDirectory directory_;
  base::Mutex packing_mutex_;  // one AddExpert at a time

  base::BoundedQueue<Command> inbox_;
  std::atomic<bool> stopping_{false};  // pushes may fail from now on
  std::atomic<bool> closed_{false};    // nothing is pushed any more
  std::atomic<bool> draining_{false};
  std::atomic<SessionId> next_session_{1};
  std::atomic<int> open_sessions_{0};  // waiting or running
  WaitingRoom waiting_room_;
  std::atomic<int> kv_pages_used_{0};
  std::atomic<int> kv_pages_cached_{0};
  std::atomic<size_t> boundary_bytes_used_{0};
  std::atomic<size_t> base_bytes_{0};

  // The engine's thread alone.
  std::map<SessionId, std::unique_ptr<LocalSequence>> local_;
  std::map<GuestKey, std::unique_ptr<GuestSequence>> guests_;
  std::vector<SessionId> waiting_;  // in the order of their coming
  FairQueue fair_;
  SessionId blocked_ = 0;  // waits for blocks, and nobody overtakes it; 0: none
  size_t rotation_ = 0;
  StallClock stalls_;
  // What the step that ended has for others: grouped so that each gets one call.
  std::map<RemoteExpert*, std::vector<HiddenRows>> outgoing_rows_;
  std::map<RemoteListener*, std::vector<RemoteResult>> outgoing_results_;
  std::map<RemoteListener*, int> consumed_rows_;

  std::thread thread_;
};

}  // namespace ccoe::runtime
