#include "common/compute/cpu/thread_pool.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "common/base/check.h"

namespace ccoe::compute::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLookAgain(50);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Calls `done` until it returns true or `spin` has passed; returns its last answer.
template <typename Done>
bool SpinUntil(int64_t spin_us, Done done) {
  if (done()) return true;
  if (spin_us == 0) return false;
  const auto deadline = Clock::now() + std::chrono::microseconds(spin_us);
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      Pause();
    }
  } while (Clock::now() < deadline);
  return done();
}

bool IsMachineCrowded() {
  static const int cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[128];
  const ssize_t size = read(file, text, sizeof(text));
  close(file);
  return size > 0 && IsCrowded({text, static_cast<size_t>(size)}, cores);
}

}  // namespace

// Its fourth field is "running/all", in threads.
bool IsCrowded(std::string_view loadavg, int cores) {
  const size_t slash = loadavg.find('/');
  if (slash == std::string_view::npos) return false;
  const size_t blank = loadavg.rfind(' ', slash);
  const size_t begin = blank == std::string_view::npos ? 0 : blank + 1;
  int running = 0;
  const char* end = loadavg.data() + slash;
  const auto [stop, error] = std::from_chars(loadavg.data() + begin, end, running);
  return error == std::errc() && stop == end && running > cores;
}

ThreadPool::ThreadPool(int threads, std::chrono::microseconds spin)
    : spin_(spin), spin_us_(spin.count()) {
  CCOE_CHECK(threads >= 1 && static_cast<uint32_t>(threads) <= kActiveMask);
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerMain(i); });
}

ThreadPool::~ThreadPool() {
  {
    base::MutexLock lock(&mutex_);
    stop_.store(true);
    wake_workers_.SignalAll();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int count, absl::FunctionRef<void(int, int)> body) {
  if (count <= 0) return;
  const bool alone = count == 1 || workers_.empty();
  if (alone || !caller_mutex_.TryLock()) {
    for (int i = 0; i < count; ++i) body(i, 0);
    return;
  }
  AdaptSpin();
  OpenLoop(count, &body);
  RunIndices(0);
  CloseLoop();
  caller_mutex_.Unlock();
}

void ThreadPool::AdaptSpin() {
  if (spin_.count() == 0) return;
  const Clock::time_point now = Clock::now();
  if (now < look_again_) return;
  look_again_ = now + kLookAgain;
  // Once may be a moment's chance; twice in a row is a crowd.
  const bool crowded = IsMachineCrowded();
  spin_us_.store(crowded && was_crowded_ ? 0 : spin_.count(), std::memory_order_relaxed);
  was_crowded_ = crowded;
}

void ThreadPool::OpenLoop(int count, absl::FunctionRef<void(int, int)>* body) {
  body_ = body;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  const uint32_t closed = state_.load(std::memory_order_relaxed);
  state_.store((closed & ~(kClosed | kActiveMask)) + kEpoch);
  // A worker counts itself a sleeper before it looks at state_ for the last time.
  if (sleepers_.load() > 0) {
    base::MutexLock lock(&mutex_);
    wake_workers_.SignalAll();
  }
}

void ThreadPool::CloseLoop() {
  state_.fetch_or(kClosed);
  const auto empty = [this] { return (state_.load() & kActiveMask) == 0; };
  if (SpinUntil(spin_us_.load(std::memory_order_relaxed), empty)) return;
  base::MutexLock lock(&mutex_);
  caller_sleeps_.store(true);
  while (!empty()) wake_caller_.Wait(&mutex_);
  caller_sleeps_.store(false);
}

void ThreadPool::RunIndices(int worker) {
  for (int i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1)) (*body_)(i, worker);
}

bool ThreadPool::WaitForLoop(uint32_t* state) {
  const uint32_t seen = *state & ~(kActiveMask | kClosed);
  const auto changed = [&] {
    *state = state_.load();
    const bool open = (*state & kClosed) == 0;
    return (open && (*state & ~(kActiveMask | kClosed)) != seen) || stop_.load();
  };
  if (!SpinUntil(spin_us_.load(std::memory_order_relaxed), changed)) {
    base::MutexLock lock(&mutex_);
    sleepers_.fetch_add(1);
    while (!changed()) wake_workers_.Wait(&mutex_);
    sleepers_.fetch_sub(1);
  }
  return !stop_.load();
}

void ThreadPool::WorkerMain(int worker) {
  uint32_t state = 0;
  while (WaitForLoop(&state)) {
    // Joins unless the loop has been closed or another one opened meanwhile.
    uint32_t expected = state;
    bool joined = false;
    while ((expected & kClosed) == 0 && !joined) {
      joined = state_.compare_exchange_weak(expected, expected + 1);
    }
    state = expected;
    if (!joined) continue;
    RunIndices(worker);
    const uint32_t before = state_.fetch_sub(1);
    if ((before & kActiveMask) == 1 && caller_sleeps_.load()) {
      base::MutexLock lock(&mutex_);
      wake_caller_.Signal();
    }
  }
}

int AvailableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace ccoe::compute::cpu
