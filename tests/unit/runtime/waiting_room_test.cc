#include "common/runtime/waiting_room.h"

#include "gtest/gtest.h"

namespace ccoe::runtime {
namespace {

TEST(WaitingRoomTest, LeavesPlacesForOtherKeys) {
  const Flow a = {"a", 1};
  WaitingRoom room(10);
  int held = 0;
  while (room.TryEnter(a)) ++held;
  EXPECT_EQ(held, 8);
  EXPECT_TRUE(room.TryEnter({"b", 1}));
  EXPECT_FALSE(room.TryEnter(a));
  for (int i = 0; i < 4; ++i) room.Leave(a);
  EXPECT_TRUE(room.TryEnter(a));
  EXPECT_EQ(room.sessions(), 6);
}

TEST(WaitingRoomTest, WhoReturnsHasAPlace) {
  WaitingRoom room(1);
  ASSERT_TRUE(room.TryEnter({}));
  room.Return({});
  EXPECT_EQ(room.sessions(), 2);
  EXPECT_FALSE(room.TryEnter({}));
}

}  // namespace
}  // namespace ccoe::runtime
