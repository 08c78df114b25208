#include "services/cli/progress.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ccoe::cli {
namespace {

constexpr std::chrono::milliseconds kPatience{200};
constexpr std::chrono::milliseconds kRedraw{100};
constexpr absl::string_view kSpinner = "|/-\\";

}  // namespace

Progress::Progress(Terminal& terminal, std::string what)
    : terminal_(terminal), what_(std::move(what)) {
  if (terminal_.err_is_terminal()) thread_ = std::thread([this] { Run(); });
}

Progress::~Progress() {
  {
    base::MutexLock lock(&mutex_);
    done_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Progress::Set(double part) {
  base::MutexLock lock(&mutex_);
  part_ = std::clamp(part, 0.0, 1.0);
}

void Progress::Run() {
  const auto start = std::chrono::steady_clock::now();
  base::MutexLock lock(&mutex_);
  size_t turn = 0;
  auto next = start + kPatience;
  for (;;) {
    while (!done_ && std::chrono::steady_clock::now() < next) {
      changed_.WaitFor(&mutex_, next - std::chrono::steady_clock::now());
    }
    if (done_) break;
    const char spin = kSpinner[turn++ % kSpinner.size()];
    const std::string part =
        part_ && *part_ < 1 ? absl::StrFormat(" %3.0f %%", *part_ * 100) : std::string();
    terminal_.Err(absl::StrCat("\r", std::string(1, spin), " ", what_, part, "\x1b[K"));
    next = std::chrono::steady_clock::now() + kRedraw;
  }
  if (turn > 0) terminal_.Err("\r\x1b[K");
}

}  // namespace ccoe::cli
