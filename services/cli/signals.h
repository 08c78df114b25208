#pragma once

#include <functional>
#include <thread>

#include "common/base/mutex.h"

namespace ccoe::cli {

// Receives SIGINT and SIGTERM on a thread of its own, so that a handler may do anything. Without a
// handler a signal ends the process with 128 + its number. Create one, first thing in main: threads
// started earlier would still be interrupted the old way. Thread-safe.
class Signals {
 public:
  using Handler = std::function<void(int signal)>;

  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Handles the signals while it lives; then the handler before it does. Its destructor waits for
  // a running handler: a handler must not destroy its own scope.
  class Scope {
   public:
    Scope(Signals& signals, Handler handler);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Signals& signals_;
    Handler previous_;
  };

 private:
  void Run();
  Handler Exchange(Handler handler);

  base::Mutex mutex_;
  Handler handler_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace ccoe::cli
