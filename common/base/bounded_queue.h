#pragma once

#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

#include "common/base/mutex.h"

namespace ccoe::base {

// A queue of at most `capacity` items between any number of producers and one consumer that takes
// all of them at once. Thread-safe. A push never blocks: it fails when the queue is full or closed.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Returns false, leaving `item` untouched, when the queue is full or closed.
  [[nodiscard]] bool TryPush(T&& item) {
    MutexLock lock(&mutex_);
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    not_empty_.Signal();
    return true;
  }

  // Takes everything that is queued; may return nothing.
  std::vector<T> TakeAll() {
    MutexLock lock(&mutex_);
    return std::exchange(items_, {});
  }

  // As TakeAll, but waits until there is an item, the queue is closed, or `timeout` has passed.
  std::vector<T> WaitAndTakeAll(std::chrono::nanoseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    MutexLock lock(&mutex_);
    while (items_.empty() && !closed_) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= std::chrono::nanoseconds::zero()) break;
      not_empty_.WaitFor(&mutex_, left);
    }
    return std::exchange(items_, {});
  }

  // Refuses further pushes and wakes the consumer; what is queued can still be taken.
  void Close() {
    MutexLock lock(&mutex_);
    closed_ = true;
    not_empty_.SignalAll();
  }

 private:
  const size_t capacity_;
  Mutex mutex_;
  CondVar not_empty_;
  std::vector<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe::base
