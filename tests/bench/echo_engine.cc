#include "tests/bench/echo_engine.h"

#include <chrono>

#include "absl/time/clock.h"

namespace ccoe::bench {

EchoEngine::EchoEngine() : thread_([this] { Run(); }) {}

EchoEngine::~EchoEngine() {
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

void EchoEngine::OpenRemote(runtime::SessionId session, runtime::RemoteSpec,
                            runtime::RemoteListener* listener) {
  listener->OnOpened(session, absl::OkStatus());
}

void EchoEngine::FeedRows(runtime::RemoteListener* listener,
                          std::vector<runtime::HiddenRows> rows) {
  base::MutexLock lock(&mutex_);
  queue_.push_back({listener, std::move(rows)});
  changed_.SignalAll();
}

void EchoEngine::DetachListener(runtime::RemoteListener* listener) {
  base::MutexLock lock(&mutex_);
  std::erase_if(queue_, [&](const Work& work) { return work.listener == listener; });
  while (busy_with_ == listener) changed_.Wait(&mutex_);
}

void EchoEngine::Run() {
  while (true) {
    Work work;
    {
      base::MutexLock lock(&mutex_);
      busy_with_ = nullptr;
      changed_.SignalAll();
      while (queue_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      work = std::move(queue_.front());
      queue_.erase(queue_.begin());
      busy_with_ = work.listener;
    }
    std::vector<runtime::RemoteResult> results;
    int count = 0;
    for (const runtime::HiddenRows& rows : work.rows) {
      count += static_cast<int>(rows.tokens.size());
      if (rows.output != runtime::RowOutput::kSample) continue;
      runtime::GeneratedToken token;
      token.position = rows.position + static_cast<int>(rows.tokens.size());
      results.push_back({rows.session, rows.epoch, {token}});
    }
    if (!results.empty()) work.listener->OnResults(std::move(results));
    work.listener->OnConsumed(count);
  }
}

absl::Status CallerEngine::AddReplica(const runtime::ExpertInfo&, runtime::RemoteExpert* replica) {
  base::MutexLock lock(&mutex_);
  replica_ = replica;
  changed_.SignalAll();
  return absl::OkStatus();
}

void CallerEngine::RemoveReplica(runtime::RemoteExpert*, absl::Status why) { Note(0, why); }

void CallerEngine::RemoteOpened(runtime::RemoteExpert*, runtime::SessionId, absl::Status status) {
  Note(1, status);
}

void CallerEngine::RemoteResults(runtime::RemoteExpert*,
                                 std::vector<runtime::RemoteResult> results) {
  Note(static_cast<int>(results.size()), absl::OkStatus());
}

void CallerEngine::RemoteFailed(runtime::RemoteExpert*, runtime::SessionId, absl::Status status) {
  Note(0, status);
}

absl::StatusOr<runtime::RemoteExpert*> CallerEngine::WaitForReplica(absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  base::MutexLock lock(&mutex_);
  while (replica_ == nullptr) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) return absl::UnavailableError("the link did not come up");
    changed_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
  }
  return replica_;
}

absl::Status CallerEngine::WaitFor(int count) {
  base::MutexLock lock(&mutex_);
  while (events_ < count && status_.ok()) changed_.Wait(&mutex_);
  events_ -= count;
  return status_;
}

void CallerEngine::Note(int events, const absl::Status& status) {
  base::MutexLock lock(&mutex_);
  events_ += events;
  status_.Update(status);
  changed_.SignalAll();
}

}  // namespace ccoe::bench
