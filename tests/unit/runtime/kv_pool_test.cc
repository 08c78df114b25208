#include "common/runtime/kv_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/unit/runtime/small_pool.h"

namespace ccoe::runtime {
namespace {

class KvPoolTest : public SmallPoolTest {
 protected:
  KvPoolTest() : SmallPoolTest(10) {}
};

TEST_F(KvPoolTest, ReservesWholePagesForEveryLayer) {
  auto blocks = pool_->Reserve(/*layers=*/2, /*positions=*/33);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(pool_->used(), 4);
  std::set<int32_t> pages(blocks->Table(0), blocks->Table(0) + 2);
  pages.insert(blocks->Table(1), blocks->Table(1) + 2);
  EXPECT_EQ(pages.size(), 4u);
}

TEST_F(KvPoolTest, RefusesWhatDoesNotFitAndKeepsNothing) {
  auto blocks = pool_->Reserve(2, 32 * 4);
  ASSERT_TRUE(blocks.ok());
  EXPECT_EQ(pool_->Reserve(1, 32 * 3).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pool_->used(), 8);
}

TEST_F(KvPoolTest, UpperLayersCanBeGivenBack) {
  auto blocks = pool_->Reserve(3, 33);
  ASSERT_TRUE(blocks.ok());
  const std::vector<int32_t> kept(blocks->Table(0), blocks->Table(0) + 4);
  blocks->Truncate(2);
  EXPECT_EQ(pool_->used(), 4);
  EXPECT_EQ(std::vector<int32_t>(blocks->Table(0), blocks->Table(0) + 4), kept);
  blocks->Truncate(5);
  EXPECT_EQ(pool_->used(), 4);
}

TEST_F(KvPoolTest, BlocksGiveThemselvesBack) {
  {
    auto blocks = pool_->Reserve(3, 1);
    ASSERT_TRUE(blocks.ok());
    KvBlocks moved = *std::move(blocks);
    EXPECT_EQ(pool_->used(), 3);
  }
  EXPECT_EQ(pool_->used(), 0);
}

}  // namespace
}  // namespace ccoe::runtime
