#pragma once

#include <map>
#include <string>

#include "common/base/mutex.h"
#include "common/runtime/session.h"

namespace ccoe::runtime {

// Counts the sessions that wait, by their keys. Thread-safe.
class WaitingRoom {
 public:
  explicit WaitingRoom(int capacity) : capacity_(capacity) {}

  // False where there is no place that the flow may take.
  bool TryEnter(const Flow& flow);
  // Of a session that waits again: there is always a place.
  void Return(const Flow& flow);
  void Leave(const Flow& flow);
  int sessions() const;

 private:
  const int capacity_;
  mutable base::Mutex mutex_;
  int sessions_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int> by_key_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::runtime
