#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/runtime/engine_impl.h"

// Which of the sessions that wait begin. The engine's thread.
namespace ccoe::runtime {

// First come, first served within a flow; among flows the least served comes first.
void EngineImpl::AdmitWaiting() {
  if (waiting_.empty()) return;
  const absl::Time now = absl::Now();
  FailOverdue(now);
  ReadmitMoved(now);
  // A session that has begun and moves keeps its place and its memory: it waits for its new replica
  // alone.
  int running = 0;
  std::map<std::string, int> running_by_key;
  for (const auto& [id, sequence] : local_) {
    if (sequence->state == LocalSequence::State::kWaiting && !sequence->started()) continue;
    ++running;
    ++running_by_key[sequence->flow.key];
  }
  // Until it has run, a session that is admitted counts as if its prompt had.
  std::vector<std::pair<SessionId, int>> counted;
  while (LocalSequence* next = NextToAdmit(now, running, running_by_key)) {
    const SessionId id = next->id;
    const std::string key = next->flow.key;
    const int rows = next->prompt_tokens;
    if (counted.empty()) fair_.Turn(next->flow, next->domain);
    const absl::Status status = AdmitNow(*next);
    blocked_ = absl::IsResourceExhausted(status) ? id : 0;
    if (blocked_ != 0) break;  // nobody overtakes who waits for blocks here
    if (!status.ok()) {
      Fail(id, status);
    } else if (FindLocal(id) != nullptr) {
      ++running;
      ++running_by_key[key];
      counted.emplace_back(id, rows);
      fair_.Charge(next->flow, next->domain, rows);
    }
  }
  for (const auto& [id, rows] : counted) {
    if (const LocalSequence* sequence = FindLocal(id)) {
      fair_.Charge(sequence->flow, sequence->domain, -rows);
    }
  }
}

void EngineImpl::FailOverdue(absl::Time now) {
  const std::vector<SessionId> waiting = waiting_;
  for (SessionId id : waiting) {
    const LocalSequence& sequence = *FindLocal(id);
    if (now < sequence.queue_deadline) continue;
    Fail(id, !sequence.lost.ok()
                 ? sequence.lost
                 : base::MakeError(base::Reason::kQueueTimeout,
                                   "waited for KV blocks until the queue time ran out",
                                   {.metadata = {}, .retry_after = kQueueRetryDelay}));
  }
}

// Those that have begun: they go before all others, for they hold memory.
void EngineImpl::ReadmitMoved(absl::Time now) {
  const std::vector<SessionId> waiting = waiting_;
  for (SessionId id : waiting) {
    LocalSequence* sequence = FindLocal(id);
    if (sequence == nullptr || !sequence->started() || sequence->retry_at > now) continue;
    const absl::Status status = AdmitNow(*sequence);
    if (!status.ok() && !absl::IsResourceExhausted(status)) Fail(id, status);
  }
}

// Takes a session out of the queue, unless it cannot be admitted. It may end at once.
absl::Status EngineImpl::AdmitNow(LocalSequence& sequence) {
  const SessionId id = sequence.id;
  const auto place = std::find(waiting_.begin(), waiting_.end(), id);
  const auto index = place - waiting_.begin();
  waiting_.erase(place);
  waiting_room_.Leave(sequence.flow);  // first, for Admit may end the session at once
  absl::Status status = Admit(sequence);
  if (!status.ok()) {
    waiting_.insert(waiting_.begin() + index, id);
    waiting_room_.Return(sequence.flow);
  }
  return status;
}

// Whose turn it is of those that have not begun; null: nobody's.
LocalSequence* EngineImpl::NextToAdmit(absl::Time now, int running,
                                       const std::map<std::string, int>& running_by_key) {
  const int free = options_.max_sessions - running;
  if (free <= 0) return nullptr;
  LocalSequence* const blocked = FindLocal(blocked_);
  if (blocked != nullptr && blocked->state == LocalSequence::State::kWaiting &&
      !blocked->started() && blocked->retry_at <= now) {
    return blocked;
  }
  LocalSequence* next = nullptr;
  FairQueue::Rank least;
  for (SessionId id : waiting_) {
    LocalSequence& sequence = *FindLocal(id);
    if (sequence.started() || sequence.retry_at > now) continue;
    const auto held = running_by_key.find(sequence.flow.key);
    if (!MayTakePlace(sequence.flow, held == running_by_key.end() ? 0 : held->second, free)) {
      continue;
    }
    const FairQueue::Rank rank = fair_.RankOf(sequence.flow, sequence.domain);
    if (next != nullptr && rank >= least) continue;
    next = &sequence;
    least = rank;
  }
  return next;
}

}  // namespace ccoe::runtime
