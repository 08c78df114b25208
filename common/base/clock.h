#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ccoe::base {

// The source of time for everything that decides by it; tests pass their own.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace ccoe::base
