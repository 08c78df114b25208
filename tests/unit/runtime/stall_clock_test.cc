#include "common/runtime/stall_clock.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace ccoe::runtime {
namespace {

absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// Links are only told apart.
RemoteExpert* Link(uintptr_t number) { return reinterpret_cast<RemoteExpert*>(number * 64); }

TEST(StallClockTest, AStallEndsWithCredit) {
  StallClock clock;
  EXPECT_EQ(clock.Observe({Link(1)}, {3}, At(0)), absl::ZeroDuration());
  EXPECT_EQ(clock.Observe({Link(1)}, {0}, At(1)), absl::ZeroDuration());
  EXPECT_EQ(clock.Observe({Link(1)}, {0}, At(4)), absl::ZeroDuration());
  EXPECT_EQ(clock.Observe({Link(1)}, {1}, At(6)), absl::Seconds(5));
  EXPECT_EQ(clock.Observe({Link(1)}, {1}, At(7)), absl::ZeroDuration());
}

TEST(StallClockTest, AStallEndsWhenNothingWaitsAnyMore) {
  StallClock clock;
  clock.Observe({Link(1), Link(2)}, {0, 0}, At(1));
  EXPECT_EQ(clock.Observe({Link(2)}, {0}, At(3)), absl::Seconds(2));
  EXPECT_EQ(clock.Observe({}, {}, At(4)), absl::Seconds(3));
  EXPECT_EQ(clock.Observe({}, {}, At(9)), absl::ZeroDuration());
}

}  // namespace
}  // namespace ccoe::runtime
