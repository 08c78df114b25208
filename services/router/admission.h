#pragma once

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "services/router/caller.h"

namespace ccoe::router {

// Bounds the requests that run or wait at a time, and knows when the last one is gone. Thread-safe.
class Admission {
 public:
  // A place; gives itself back when destroyed. Outlived by the Admission.
  class Ticket {
   public:
    Ticket(Admission* owner, std::shared_ptr<const void> of_caller)
        : owner_(owner), of_caller_(std::move(of_caller)) {}
    ~Ticket() { owner_->Leave(); }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    Admission* const owner_;
    const std::shared_ptr<const void> of_caller_;
  };

  // `capacity` places; RESOURCE_EXHAUSTED asks clients to come back after `retry_after`.
  Admission(int capacity, absl::Duration retry_after)
      : capacity_(capacity), retry_after_(retry_after) {}

  // For `caller`, which may be null. RESOURCE_EXHAUSTED as of Caller::Enter, and without a free
  // place (QUEUE_FULL); UNAVAILABLE (DRAINING) after StartDraining.
  absl::StatusOr<std::unique_ptr<Ticket>> Enter(const std::shared_ptr<Caller>& caller);
  int active() const;

  void StartDraining();
  // Waits until nobody has a ticket; false when `timeout` passed before.
  bool WaitUntilIdle(absl::Duration timeout);

 private:
  void Leave();

  const int capacity_;
  const absl::Duration retry_after_;
  mutable base::Mutex mutex_;
  base::CondVar idle_;
  int active_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe::router
