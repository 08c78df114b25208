#pragma once

#include <grpcpp/alarm.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/time/time.h"

namespace ccoe::router {

// Calls a function of an object at a time, unless the object is gone by then or the timer was set
// anew. Thread-compatible. The function runs on a thread of gRPC's.
class CallTimer {
 public:
  template <typename T>
  void Set(absl::Time at, const std::shared_ptr<T>& object, void (T::*function)()) {
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(at), [weak = std::weak_ptr<T>(object), function](bool fired) {
      if (!fired) return;
      if (const std::shared_ptr<T> alive = weak.lock()) ((*alive).*function)();
    });
  }
  void Stop() { alarm_.reset(); }

 private:
  std::unique_ptr<grpc::Alarm> alarm_;
};

}  // namespace ccoe::router
