#include <algorithm>
#include <set>
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
  Places places = CountPlaces();
  // Until it has run, a session that is admitted counts as if its prompt had.
  std::vector<std::pair<SessionId, int>> counted;
  while (LocalSequence* next = NextToAdmit(now, places)) {
    const SessionId id = next->id;
    const std::string key = next->flow.key;
    if (counted.empty()) fair_.Turn(next->flow, next->domain);
    const absl::Status status = AdmitNow(*next);
    blocked_ = absl::IsResourceExhausted(status) ? id : 0;
    if (blocked_ != 0) break;  // nobody overtakes who waits for blocks here
    if (!status.ok()) {
      Fail(id, status);
    } else if (FindLocal(id) != nullptr) {
      ++places.running;
      ++places.keys[key].running;
      places.keys[key].pages += next->blocks.page_count();
      const int rows = next->prompt_tokens - next->cached_tokens;
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

// A session that has begun and moves keeps its place and its memory: it waits for its new replica
// alone.
EngineImpl::Places EngineImpl::CountPlaces() const {
  Places places;
  for (const auto& [id, sequence] : local_) {
    KeyPlaces& key = places.keys[sequence->flow.key];
    if (key.weight == 0) places.weights += key.weight = sequence->flow.weight;
    if (sequence->state == LocalSequence::State::kWaiting && !sequence->started()) continue;
    ++places.running;
    ++key.running;
    key.pages += sequence->blocks.page_count();
  }
  return places;
}

// Whether one place more than `held` is no more than the flow's key gets where all that have
// sessions want some.
bool EngineImpl::IsBelowShare(const Places& places, const Flow& flow, int held) const {
  const int weight = places.keys.find(flow.key)->second.weight;
  return (int64_t{held} + 1) * places.weights <= int64_t{options_.max_sessions} * weight;
}

// Whether a session may run: while there are places, and beyond them while its key is below its
// share. Then others pause, by turns: a step has no more sessions than there are places. And of the
// KV pool no key takes everything, but its first session may need as much; a key that stays within
// its part is not overtaken.
bool EngineImpl::HasPlace(const Places& places, const LocalSequence& sequence) const {
  const KeyPlaces& key = places.keys.find(sequence.flow.key)->second;
  if (places.running >= options_.max_sessions &&
      !IsBelowShare(places, sequence.flow, key.running)) {
    return false;
  }
  if (sequence.flow.key.empty() || key.pages == 0) return true;
  const int pages =
      KvPool::PagesFor(options_.layer_end - options_.layer_begin, sequence.max_positions);
  const int held = std::min(key.pages, pool_->used());
  // As if one more key came.
  const bool within =
      int64_t{held + pages} * (places.weights + 1) <= int64_t{pool_->total()} * key.weight;
  return within ||
         MayTakePlace(sequence.flow, held + pages - 1, pool_->total() - pool_->used() - pages + 1);
}

// Whose turn it is of those that have not begun; null: nobody's.
LocalSequence* EngineImpl::NextToAdmit(absl::Time now, const Places& places) {
  LocalSequence* next = nullptr;
  FairQueue::Rank least;
  std::set<absl::string_view> full;  // keys whose first has no place: nor have those behind it
  for (SessionId id : waiting_) {
    LocalSequence& sequence = *FindLocal(id);
    if (sequence.started() || sequence.retry_at > now) continue;
    if (id == blocked_ && HasPlace(places, sequence)) return &sequence;
    if (full.contains(sequence.flow.key)) continue;
    if (!HasPlace(places, sequence)) {
      full.insert(sequence.flow.key);
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
