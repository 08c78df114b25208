#pragma once

#include <optional>
#include <string>
#include <thread>

#include "common/base/mutex.h"
#include "services/cli/terminal.h"

namespace ccoe::cli {

// Says on standard error that something takes its time: a line that appears after 200 ms,
// moves, and is gone when this is destroyed. Silent when standard error is no terminal.
// Thread-safe.
class Progress {
 public:
  // Nothing else may write to `terminal` while this lives.
  Progress(Terminal& terminal, std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // The part that is done, in [0, 1]; without it a spinner turns.
  void Set(double part);

 private:
  void Run();

  Terminal& terminal_;
  const std::string what_;
  base::Mutex mutex_;
  base::CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<double> part_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace ccoe::cli
