#pragma once

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/runtime/engine.h"

namespace ccoe::bench {

// An engine that computes nothing: a base for the two ends of a link whose cost is measured.
class NoEngine : public runtime::Engine {
 public:
  runtime::ExpertInfo Describe(const model::ExpertPackage&) const override { return {}; }
  absl::Status AddExpert(std::shared_ptr<const model::ExpertPackage>) override { return Refuse(); }
  absl::Status RemoveExpert(const runtime::ExpertKey&) override { return Refuse(); }
  absl::Status AddReplica(const runtime::ExpertInfo&, runtime::RemoteExpert*) override {
    return Refuse();
  }
  void RemoveReplica(runtime::RemoteExpert*, absl::Status) override {}
  void RetireReplica(runtime::RemoteExpert*) override {}
  std::vector<runtime::ExpertInfo> Experts() const override { return {}; }
  runtime::EngineStats Stats() const override { return {}; }
  absl::StatusOr<runtime::SessionId> Open(runtime::SessionSpec,
                                          runtime::SessionListener*) override {
    return Refuse();
  }
  void Decide(runtime::SessionId, runtime::ExpertKey) override {}
  void Cancel(runtime::SessionId, absl::Status) override {}
  void Pause(runtime::SessionId) override {}
  void Resume(runtime::SessionId) override {}
  void OpenRemote(runtime::SessionId, runtime::RemoteSpec, runtime::RemoteListener*) override {}
  void FeedRows(runtime::RemoteListener*, std::vector<runtime::HiddenRows>) override {}
  void CloseRemote(runtime::RemoteListener*, runtime::SessionId) override {}
  void DetachListener(runtime::RemoteListener*) override {}
  void RemoteOpened(runtime::RemoteExpert*, runtime::SessionId, absl::Status) override {}
  void RemoteResults(runtime::RemoteExpert*, std::vector<runtime::RemoteResult>) override {}
  void RemoteFailed(runtime::RemoteExpert*, runtime::SessionId, absl::Status) override {}
  void LinkReady(runtime::RemoteExpert*) override {}
  bool Drain(absl::Duration) override { return true; }

 private:
  static absl::Status Refuse() { return absl::UnimplementedError("a benchmark's engine"); }
};

// The expert's end: answers whatever wants an output with token 0, on a thread of its own as the
// real engine does.
class EchoEngine final : public NoEngine {
 public:
  EchoEngine();
  ~EchoEngine() override;

  void OpenRemote(runtime::SessionId session, runtime::RemoteSpec spec,
                  runtime::RemoteListener* listener) override;
  void FeedRows(runtime::RemoteListener* listener, std::vector<runtime::HiddenRows> rows) override;
  void DetachListener(runtime::RemoteListener* listener) override;

 private:
  struct Work {
    runtime::RemoteListener* listener = nullptr;
    std::vector<runtime::HiddenRows> rows;
  };

  void Run();

  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<Work> queue_ ABSL_GUARDED_BY(mutex_);
  runtime::RemoteListener* busy_with_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// The backbone's end: waits for the replica, and for results.
class CallerEngine final : public NoEngine {
 public:
  absl::Status AddReplica(const runtime::ExpertInfo& expert,
                          runtime::RemoteExpert* replica) override;
  void RemoveReplica(runtime::RemoteExpert* replica, absl::Status why) override;
  void RemoteOpened(runtime::RemoteExpert* replica, runtime::SessionId session,
                    absl::Status status) override;
  void RemoteResults(runtime::RemoteExpert* replica,
                     std::vector<runtime::RemoteResult> results) override;
  void RemoteFailed(runtime::RemoteExpert* replica, runtime::SessionId session,
                    absl::Status status) override;

  // The first replica; UNAVAILABLE when none comes within `timeout`.
  absl::StatusOr<runtime::RemoteExpert*> WaitForReplica(absl::Duration timeout);
  // Waits until `count` events (sessions opened, results) have come since the last call.
  absl::Status WaitFor(int count);

 private:
  void Note(int events, const absl::Status& status);

  base::Mutex mutex_;
  base::CondVar changed_;
  runtime::RemoteExpert* replica_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int events_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::bench
