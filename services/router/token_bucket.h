#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace ccoe::router {

// The tokens of a minute: a bucket that holds as many, is full at first and fills evenly. What a
// request takes is known only once it has it, so the bucket may be overdrawn, and stays empty for
// as long as that took too much. The time is passed in.
class TokenBucket {
 public:
  // How long until it holds a token, in whole milliseconds; zero where it does.
  absl::Duration Wait(absl::Time now) const {
    const absl::Duration empty_for = full_at_ - now - kCapacity;
    if (empty_for < absl::ZeroDuration()) return absl::ZeroDuration();
    return absl::Ceil(empty_for + absl::Nanoseconds(1), absl::Milliseconds(1));
  }

  // `tokens_per_minute` > 0 may be another one each time.
  void Take(int64_t tokens, int tokens_per_minute, absl::Time now) {
    full_at_ = std::max(full_at_, now) + kCapacity * tokens / tokens_per_minute;
  }

 private:
  static constexpr absl::Duration kCapacity = absl::Minutes(1);  // as the time that fills it

  absl::Time full_at_ = absl::InfinitePast();
};

}  // namespace ccoe::router
