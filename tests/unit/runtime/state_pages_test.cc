#include "common/runtime/state_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace ccoe::runtime {
namespace {

constexpr int kHidden = 2;

std::vector<float> RowsFrom(int position, int count) {
  std::vector<float> rows(static_cast<size_t>(count) * kHidden);
  std::iota(rows.begin(), rows.end(), static_cast<float>(position * kHidden));
  return rows;
}

TEST(StatePagesTest, APageIsGivenOnceItIsWhole) {
  StatePages pages(kHidden);
  pages.Take(0, RowsFrom(0, 50));
  pages.Take(50, RowsFrom(50, 1));
  EXPECT_EQ(pages.Extract(1), nullptr);
  pages.Take(51, RowsFrom(51, 13));
  ASSERT_NE(pages.Extract(0), nullptr);
  const StatePage second = pages.Extract(1);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, RowsFrom(32, 32));
  EXPECT_EQ(pages.Extract(1), nullptr) << "it was given";
}

TEST(StatePagesTest, APageWithoutItsFirstRowsStaysEmpty) {
  StatePages pages(kHidden);
  pages.Take(40, RowsFrom(40, 60));
  EXPECT_EQ(pages.Extract(0), nullptr);
  EXPECT_EQ(pages.Extract(1), nullptr);
  ASSERT_NE(pages.Extract(2), nullptr);
}

TEST(StatePagesTest, RowsMayComeAgainAndBeForgotten) {
  StatePages pages(kHidden);
  pages.Take(0, RowsFrom(0, 40));
  pages.Take(0, RowsFrom(0, 35));
  pages.Truncate(33);
  pages.Take(33, RowsFrom(33, 31));
  const StatePage second = pages.Extract(1);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, RowsFrom(32, 32));
}

}  // namespace
}  // namespace ccoe::runtime
