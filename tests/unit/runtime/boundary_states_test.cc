#include "common/runtime/boundary_states.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

namespace ccoe::runtime {
namespace {

using ::testing::ElementsAre;

constexpr int kHidden = 2;
constexpr size_t kRowBytes = kHidden * sizeof(float);

TEST(BoundaryStatesTest, KeepsRowsInTheOrderOfComing) {
  BoundaryStore store(kHidden, 3 * kRowBytes);
  auto states = store.Reserve(3);
  ASSERT_TRUE(states.ok()) << states.status();
  states->Append({1, 2, 3, 4});
  states->Append({5, 6});
  EXPECT_THAT(states->Rows(1, 2), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(states->Rows(0, 1), ElementsAre(1, 2));
}

TEST(BoundaryStatesTest, RefusesWhatDoesNotFitAndKeepsNothing) {
  BoundaryStore store(kHidden, 10 * kRowBytes + 1);
  const auto states = store.Reserve(7);
  ASSERT_TRUE(states.ok()) << states.status();
  EXPECT_EQ(store.Reserve(4).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.used_bytes(), 7 * kRowBytes);
  EXPECT_TRUE(store.Reserve(3).ok());
}

TEST(BoundaryStatesTest, StatesGiveThemselvesBack) {
  BoundaryStore store(kHidden, 10 * kRowBytes);
  {
    auto states = store.Reserve(6);
    ASSERT_TRUE(states.ok()) << states.status();
    states->Append({1, 2});
    BoundaryStates moved = *std::move(states);
    EXPECT_THAT(moved.Rows(0, 1), ElementsAre(1, 2));
    EXPECT_EQ(store.used_bytes(), 6 * kRowBytes);
    moved = BoundaryStates();
    EXPECT_EQ(store.used_bytes(), 0u);
    moved = *store.Reserve(10);
    EXPECT_EQ(store.used_bytes(), 10 * kRowBytes);
  }
  EXPECT_EQ(store.used_bytes(), 0u);
}

}  // namespace
}  // namespace ccoe::runtime
