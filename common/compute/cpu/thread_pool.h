#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "common/base/mutex.h"

namespace ccoe::compute::cpu {

// Whether more threads of the whole machine want to run than it has cores; `loadavg` is what
// /proc/loadavg holds. False where it cannot be told.
bool IsCrowded(std::string_view loadavg, int cores);

// Threads that share loops with their caller. Between loops they spin for a bounded time, then
// sleep; while the machine is crowded they sleep at once, since a thread that spins would keep
// another from its work. Which thread runs which index is not defined: an index must compute its
// own outputs.
//
// Thread-safe: while one caller's loop runs, another's runs on that caller's thread alone.
class ThreadPool {
 public:
  // `threads` counts the caller: threads - 1 are started. A spin of zero sleeps at once.
  ThreadPool(int threads, std::chrono::microseconds spin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(index, worker) for every index in [0, count), each once, and returns when all have
  // returned. `worker` is in [0, threads()), and no two calls at a time of one loop share it.
  void ParallelFor(int count, absl::FunctionRef<void(int index, int worker)> body);

 private:
  // state_: an epoch in the high bits, then whether the epoch's loop is closed to joining workers,
  // then how many workers are in it.
  static constexpr uint32_t kActiveMask = 0xfff;
  static constexpr uint32_t kClosed = 0x1000;
  static constexpr uint32_t kEpoch = 0x2000;

  void WorkerMain(int worker);
  // Waits until there is a loop to join after the one seen in `state`; false to stop.
  bool WaitForLoop(uint32_t* state);
  void RunIndices(int worker);
  void OpenLoop(int count, absl::FunctionRef<void(int, int)>* body);
  void CloseLoop();
  // Looks at the machine's load from time to time and sets spin_us_.
  void AdaptSpin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(caller_mutex_);

  const std::chrono::microseconds spin_;  // when there are cores enough
  std::atomic<int64_t> spin_us_;          // now
  base::Mutex caller_mutex_;              // held by the caller whose loop runs
  std::chrono::steady_clock::time_point look_again_ ABSL_GUARDED_BY(caller_mutex_);
  bool was_crowded_ ABSL_GUARDED_BY(caller_mutex_) = false;

  // Written only while the loop is closed and no worker is in it.
  absl::FunctionRef<void(int, int)>* body_ = nullptr;
  int count_ = 0;

  alignas(64) std::atomic<uint32_t> state_{kClosed};
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};

  base::Mutex mutex_;  // for sleeping only
  base::CondVar wake_workers_;
  base::CondVar wake_caller_;
  std::vector<std::thread> workers_;
};

// Cores that this process may run on.
int AvailableCores();

}  // namespace ccoe::compute::cpu
