#include "common/compute/cpu/thread_pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::compute::cpu {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<std::tuple<int, int>> {
 protected:
  ThreadPool pool_{std::get<0>(GetParam()), std::chrono::microseconds(std::get<1>(GetParam()))};
};

// Plain values written in one loop and read in the next: TSan sees a missing happens-before.
TEST_P(ThreadPoolTest, RunsEveryIndexOnceAndPublishesWhatItWrote) {
  std::vector<int> values(100);
  for (int round = 0; round < 500; ++round) {
    const int count = round % 100 + 1;
    pool_.ParallelFor(count, [&](int i, int worker) {
      EXPECT_LT(worker, pool_.threads());
      ++values[static_cast<size_t>((i + round) % count)];
    });
  }
  int total = 0;
  for (const int v : values) total += v;
  EXPECT_EQ(total, 5 * 5050);
}

TEST_P(ThreadPoolTest, WorkersHaveTheirOwnNumbers) {
  std::vector<int> counts(static_cast<size_t>(pool_.threads()));
  for (int round = 0; round < 200; ++round) {
    pool_.ParallelFor(16, [&](int, int worker) { ++counts[static_cast<size_t>(worker)]; });
  }
  int total = 0;
  for (const int c : counts) total += c;
  EXPECT_EQ(total, 200 * 16);
}

TEST_P(ThreadPoolTest, ServesSeveralCallers) {
  std::atomic<int> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        pool_.ParallelFor(8, [&](int, int) { total.fetch_add(1); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total.load(), 3 * 100 * 8);
}

TEST_P(ThreadPoolTest, NothingToDoIsFine) {
  pool_.ParallelFor(0, [](int, int) { FAIL(); });
}

INSTANTIATE_TEST_SUITE_P(All, ThreadPoolTest,
                         ::testing::Combine(::testing::Values(1, 2, 3, 8),
                                            ::testing::Values(0, 20)));

TEST(CrowdTest, IsTheLoadAboveTheCores) {
  EXPECT_FALSE(IsCrowded("0.20 0.18 0.12 2/80 11206\n", 2));
  EXPECT_TRUE(IsCrowded("0.20 0.18 0.12 3/80 11206\n", 2));
  EXPECT_TRUE(IsCrowded("12.00 8.10 4.00 17/1200 4194304\n", 16));
  for (const char* odd : {"", "0.20", "/", "a/b", "0.2 0.2 0.2 9x/80 1", "99999999999/1"}) {
    EXPECT_FALSE(IsCrowded(odd, 2)) << odd;
  }
}

}  // namespace
}  // namespace ccoe::compute::cpu
