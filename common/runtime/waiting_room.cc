#include "common/runtime/waiting_room.h"

#include "common/runtime/fair_queue.h"

namespace ccoe::runtime {

bool WaitingRoom::TryEnter(const Flow& flow) {
  base::MutexLock lock(&mutex_);
  const auto held = by_key_.find(flow.key);
  if (!MayTakePlace(flow, held == by_key_.end() ? 0 : held->second, capacity_ - sessions_)) {
    return false;
  }
  ++sessions_;
  ++by_key_[flow.key];
  return true;
}

void WaitingRoom::Return(const Flow& flow) {
  base::MutexLock lock(&mutex_);
  ++sessions_;
  ++by_key_[flow.key];
}

void WaitingRoom::Leave(const Flow& flow) {
  base::MutexLock lock(&mutex_);
  --sessions_;
  const auto held = by_key_.find(flow.key);
  if (--held->second == 0) by_key_.erase(held);
}

int WaitingRoom::sessions() const {
  base::MutexLock lock(&mutex_);
  return sessions_;
}

}  // namespace ccoe::runtime
