#include "common/runtime/fair_queue.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::runtime {
namespace {

const Flow kA = {"a", 1};
const Flow kB = {"b", 1};

TEST(FairQueueTest, TheLeastServedComesFirst) {
  FairQueue queue;
  queue.Join(kA, "law");
  queue.Join(kB, "law");
  EXPECT_EQ(queue.RankOf(kA, "law"), queue.RankOf(kB, "law"));
  queue.Charge(kA, "law", 10);
  EXPECT_LT(queue.RankOf(kB, "law"), queue.RankOf(kA, "law"));
  queue.Charge(kB, "law", 11);
  EXPECT_LT(queue.RankOf(kA, "law"), queue.RankOf(kB, "law"));
}

TEST(FairQueueTest, AWeightIsAShare) {
  FairQueue queue;
  const Flow heavy = {"heavy", 3};
  queue.Join(heavy, "");
  queue.Join(kA, "");
  queue.Charge(heavy, "", 30);
  queue.Charge(kA, "", 10);
  EXPECT_EQ(queue.RankOf(heavy, "").first, queue.RankOf(kA, "").first);
}

TEST(FairQueueTest, DomainsShareWhatTheirKeyHas) {
  FairQueue queue;
  queue.Join(kA, "law");
  queue.Join(kA, "sql");
  queue.Join(kB, "sql");
  queue.Charge(kA, "law", 10);
  EXPECT_LT(queue.RankOf(kA, "sql"), queue.RankOf(kA, "law"));
  // Both of a key come behind the other key, however little one of them had.
  EXPECT_LT(queue.RankOf(kB, "sql"), queue.RankOf(kA, "sql"));
}

TEST(FairQueueTest, IdlenessSavesNothingUp) {
  FairQueue queue;
  queue.Join(kA, "");
  queue.Charge(kA, "", 1000);
  queue.Join(kB, "");
  EXPECT_EQ(queue.RankOf(kB, "").first, queue.RankOf(kA, "").first);
}

TEST(FairQueueTest, NorDoesItForgiveWhatWasServed) {
  FairQueue queue;
  queue.Join(kA, "");
  queue.Join(kB, "");
  queue.Charge(kA, "", 1000);
  queue.Leave(kA, "");
  queue.Join(kA, "");
  EXPECT_LT(queue.RankOf(kB, ""), queue.RankOf(kA, ""));
}

TEST(FairQueueTest, WhatWasIdleCostsItsUserNothingLater) {
  FairQueue queue;
  queue.Join(kB, "");  // has little to do, but always something
  queue.Join(kA, "");
  for (int turn = 0; turn < 1000; ++turn) {
    queue.Turn(kA, "");
    queue.Charge(kA, "", 64);
  }
  const double used = queue.RankOf(kA, "").first;
  queue.Join(kB, "");
  EXPECT_GE(queue.RankOf(kB, "").first, used - 64);
  const Flow late = {"late", 1};
  queue.Join(late, "");
  EXPECT_GE(queue.RankOf(late, "").first, used - 64);
  EXPECT_LT(queue.RankOf(late, ""), queue.RankOf(kA, ""));
  // So among the domains of a key.
  queue.Join(kA, "law");
  EXPECT_GE(queue.RankOf(kA, "law").second, 64 * 999);
}

// Flows of random weights that always have work, each turn for the one whose turn it is, with a
// random number of rows. However the others come and go, two of them never differ by more, by
// weight, than one turn.
TEST(FairQueueTest, FlowsThatAlwaysHaveWorkAreServedByTheirWeights) {
  constexpr int kMostRows = 64;
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    FairQueue queue;
    std::vector<Flow> flows;
    for (int i = 0; i < 5; ++i) {
      flows.push_back(
          {std::string(1, static_cast<char>('a' + i)), 1 + static_cast<int>(random() % 4)});
      queue.Join(flows.back(), "");
    }
    const Flow guest = {"guest", 2};
    bool guest_there = false;
    std::vector<double> served(flows.size(), 0);
    for (int turn = 0; turn < 2000; ++turn) {
      if (random() % 10 == 0) {
        guest_there ? queue.Leave(guest, "") : queue.Join(guest, "");
        guest_there = !guest_there;
      }
      const int rows = 1 + static_cast<int>(random() % kMostRows);
      size_t next = 0;
      for (size_t i = 1; i < flows.size(); ++i) {
        if (queue.RankOf(flows[i], "") < queue.RankOf(flows[next], "")) next = i;
      }
      if (guest_there && queue.RankOf(guest, "") < queue.RankOf(flows[next], "")) {
        queue.Charge(guest, "", rows);
        continue;
      }
      queue.Charge(flows[next], "", rows);
      served[next] += static_cast<double>(rows) / flows[next].weight;
      const auto [least, most] = std::minmax_element(served.begin(), served.end());
      ASSERT_LE(*most - *least, kMostRows);
    }
  }
}

TEST(MayTakePlaceTest, OneKeyNeverHoldsAllOfManyPlaces) {
  int held = 0;
  while (MayTakePlace(kA, held, 100 - held)) ++held;
  EXPECT_EQ(held, 80);
  // What it left is for others, who leave some in turn.
  int other = 0;
  while (MayTakePlace(kB, other, 100 - held - other)) ++other;
  EXPECT_EQ(other, 16);
  EXPECT_TRUE(MayTakePlace({"c", 1}, 0, 1));
  EXPECT_FALSE(MayTakePlace({"c", 1}, 0, 0));
}

TEST(MayTakePlaceTest, AHeavyKeyHoldsMore) {
  int held = 0;
  while (MayTakePlace({"heavy", 6}, held, 100 - held)) ++held;
  EXPECT_EQ(held, 96);
}

TEST(MayTakePlaceTest, WithoutAKeyThereIsNoThreshold) {
  EXPECT_TRUE(MayTakePlace({}, 99, 1));
  EXPECT_FALSE(MayTakePlace({}, 0, 0));
}

}  // namespace
}  // namespace ccoe::runtime
