#include "services/cli/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

namespace ccoe::cli {
namespace {

// Ends the thread; nobody else sends it.
constexpr int kStopSignal = SIGUSR2;

sigset_t HandledSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, kStopSignal);
  return set;
}

}  // namespace

Signals::Signals() {
  const sigset_t set = HandledSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { Run(); });
}

Signals::~Signals() {
  pthread_kill(thread_.native_handle(), kStopSignal);
  thread_.join();
}

void Signals::Run() {
  const sigset_t set = HandledSignals();
  for (;;) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal == kStopSignal) return;
    base::MutexLock lock(&mutex_);
    if (!handler_) {
      if (isatty(STDERR_FILENO) == 1 && write(STDERR_FILENO, "\n", 1) < 0) _exit(128 + signal);
      _exit(128 + signal);
    }
    handler_(signal);
  }
}

Signals::Handler Signals::Exchange(Handler handler) {
  base::MutexLock lock(&mutex_);
  return std::exchange(handler_, std::move(handler));
}

Signals::Scope::Scope(Signals& signals, Handler handler)
    : signals_(signals), previous_(signals.Exchange(std::move(handler))) {}

Signals::Scope::~Scope() { signals_.Exchange(std::move(previous_)); }

}  // namespace ccoe::cli
