#include "services/router/admission.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/runtime/fair_queue.h"

namespace ccoe::router {

absl::StatusOr<std::unique_ptr<Admission::Ticket>> Admission::Enter(
    const std::shared_ptr<Caller>& caller) {
  base::MutexLock lock(&mutex_);
  if (draining_) {
    return base::MakeError(base::Reason::kDraining, "the server is shutting down; try another one",
                           {.metadata = {}, .retry_after = retry_after_});
  }
  std::shared_ptr<const void> of_caller;
  runtime::Flow flow;
  int held = 0;
  if (caller != nullptr) {
    flow = caller->flow();
    held = caller->active();
    CCOE_ASSIGN_OR_RETURN(of_caller, caller->Enter(absl::Now()));
  }
  if (!runtime::MayTakePlace(flow, held, capacity_ - active_)) {
    return base::MakeError(
        base::Reason::kQueueFull,
        absl::StrCat(active_, " requests run or wait; there is no place for this one"),
        {.metadata = {{"max_active_requests", absl::StrCat(capacity_)}},
         .retry_after = retry_after_});
  }
  ++active_;
  return std::make_unique<Ticket>(this, std::move(of_caller));
}

int Admission::active() const {
  base::MutexLock lock(&mutex_);
  return active_;
}

void Admission::StartDraining() {
  base::MutexLock lock(&mutex_);
  draining_ = true;
}

bool Admission::WaitUntilIdle(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  base::MutexLock lock(&mutex_);
  while (active_ > 0) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    idle_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
  }
  return true;
}

void Admission::Leave() {
  base::MutexLock lock(&mutex_);
  if (--active_ == 0) idle_.SignalAll();
}

}  // namespace ccoe::router
