#include "common/runtime/route_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace ccoe::runtime {
namespace {

TEST(RoutePoolTest, IsTheMeanOfNormalisedRoutedRows) {
  RoutePool pool({{1, 2}, {3, 5}}, 2, 0);
  const std::vector<float> rows = {9, 9, 3, 4, 9, 9, 0, 2, 6, 8, 9, 9};  // positions 0..5
  EXPECT_TRUE(pool.Add(0, rows));
  const float a = std::sqrt(12.5f), b = std::sqrt(2.0f), c = std::sqrt(50.0f);
  EXPECT_THAT(pool.Mean(), ::testing::ElementsAre(::testing::FloatEq((3 / a + 0 / b + 6 / c) / 3),
                                                  ::testing::FloatEq((4 / a + 2 / b + 8 / c) / 3)));
}

TEST(RoutePoolTest, CutsDoNotChangeABit) {
  std::vector<float> rows;
  for (int i = 0; i < 40; ++i) rows.push_back(std::sin(static_cast<float>(i)));
  const std::vector<model::TokenRange> tokens = {{2, 4}, {7, 13}};
  RoutePool whole(tokens, 2, 1e-5f);
  EXPECT_TRUE(whole.Add(0, rows));
  for (int cut : {1, 3, 7, 12, 13, 19}) {
    RoutePool pool(tokens, 2, 1e-5f);
    const auto span = absl::MakeConstSpan(rows);
    EXPECT_EQ(pool.Add(0, span.first(2 * cut)), cut >= 13) << cut;
    EXPECT_EQ(pool.Add(cut, span.subspan(2 * cut)), cut < 13) << cut;
    EXPECT_EQ(pool.Mean(), whole.Mean()) << cut;
  }
}

}  // namespace
}  // namespace ccoe::runtime
