#include "common/runtime/prefix_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/runtime/small_pool.h"

namespace ccoe::runtime {
namespace {

constexpr int kPage = compute::kKvPageTokens;
constexpr int kLayers = 2;
constexpr size_t kStateBudget = 4 * sizeof(float) * kPage;  // four pages of one value a row

class PrefixCacheTest : public SmallPoolTest {
 protected:
  PrefixCacheTest() : SmallPoolTest(12) {}
  void SetUp() override {
    SmallPoolTest::SetUp();
    cache_ = std::make_unique<PrefixCache>(*pool_, kStateBudget);
  }

  // Pages of tokens, each page of one number.
  static std::vector<int32_t> Tokens(const std::vector<int32_t>& pages) {
    std::vector<int32_t> tokens;
    for (int32_t page : pages) tokens.insert(tokens.end(), kPage, page);
    return tokens;
  }
  // A session over the tokens ends, whose layers from `own` on are `digest`'s.
  void RunSession(const std::string& salt, const std::vector<int32_t>& pages, int own = kLayers,
                  const std::string& digest = "") {
    const int count = static_cast<int>(pages.size());
    auto blocks = pool_->Reserve(kLayers, count * kPage);
    ASSERT_TRUE(blocks.ok()) << blocks.status();
    std::vector<PrefixEntry> entries(count);
    for (int index = 0; index < count; ++index) {
      for (int layer = 0; layer < own; ++layer) {
        entries[index].trunk.push_back(blocks->Table(layer)[index]);
      }
      for (int layer = own; layer < kLayers; ++layer) {
        entries[index].tails[digest].push_back(blocks->Table(layer)[index]);
      }
    }
    cache_->Insert(salt, Tokens(pages), std::move(entries));
  }
  size_t Found(const std::string& salt, const std::vector<int32_t>& pages) {
    return cache_->Find(salt, Tokens(pages)).size();
  }

  std::unique_ptr<PrefixCache> cache_;
};

TEST_F(PrefixCacheTest, FindsTheLongestPrefixOfWholePages) {
  RunSession("", {1, 2, 3});
  EXPECT_EQ(Found("", {1, 2, 3, 4}), 3u);
  EXPECT_EQ(Found("", {1, 2, 4}), 2u);
  EXPECT_EQ(Found("", {2, 3}), 0u);
  std::vector<int32_t> short_of_one = Tokens({1, 2});
  short_of_one.pop_back();
  EXPECT_EQ(cache_->Find("", short_of_one).size(), 1u);
  EXPECT_EQ(pool_->used(), 0);
  EXPECT_EQ(pool_->cached(), 3 * kLayers);
}

TEST_F(PrefixCacheTest, SaltsDoNotShare) {
  RunSession("a", {1});
  EXPECT_EQ(Found("a", {1}), 1u);
  EXPECT_EQ(Found("b", {1}), 0u);
  EXPECT_EQ(Found("", {1}), 0u);
}

TEST_F(PrefixCacheTest, WhatIsKnownIsNotKeptTwice) {
  RunSession("", {1, 2});
  RunSession("", {1, 2, 3});
  EXPECT_EQ(pool_->cached(), 3 * kLayers);
}

TEST_F(PrefixCacheTest, AnExpertsLayersStandBesideTheTrunk) {
  RunSession("", {1}, 1, "one");
  RunSession("", {1}, 1, "two");
  EXPECT_EQ(pool_->cached(), 3);
  auto entries = cache_->Find("", Tokens({1}));
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0]->trunk.size(), 1u);
  EXPECT_TRUE(entries[0]->tails.contains("one"));
  EXPECT_TRUE(entries[0]->tails.contains("two"));
  RunSession("", {1});  // the base model adds the layer that was missing
  EXPECT_EQ(pool_->cached(), 4);
  cache_->DropTails("one");
  EXPECT_FALSE(entries[0]->tails.contains("one"));
  EXPECT_EQ(pool_->cached(), 3);
}

TEST_F(PrefixCacheTest, ThePoolTakesWhatWasUsedLeastRecently) {
  RunSession("", {1, 2});
  RunSession("", {3, 4});
  EXPECT_EQ(Found("", {1}), 1u);
  EXPECT_EQ(pool_->cached(), 4 * kLayers);
  {
    auto blocks = pool_->Reserve(kLayers, 3 * kPage);  // 4 are free, 2 are wanted
    ASSERT_TRUE(blocks.ok()) << blocks.status();
    EXPECT_EQ(Found("", {1}), 1u);
    EXPECT_EQ(Found("", {1, 2}), 1u) << "the end of a prefix goes first";
    EXPECT_EQ(Found("", {3, 4}), 2u);
  }
  auto all = pool_->Reserve(kLayers, 6 * kPage);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(pool_->cached(), 0);
  EXPECT_FALSE(cache_->EvictOne());
}

TEST_F(PrefixCacheTest, ARefusalForgetsNothing) {
  RunSession("", {1, 2});
  auto held = pool_->Reserve(kLayers, 3 * kPage);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(pool_->Reserve(kLayers, 4 * kPage).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Found("", {1, 2}), 2u);
}

TEST_F(PrefixCacheTest, PagesThatASessionSharesOutliveTheirEntry) {
  RunSession("", {1, 2});
  auto entries = cache_->Find("", Tokens({1, 2}));
  auto blocks = pool_->Reserve(kLayers, 3 * kPage, {entries[0]->trunk, entries[1]->trunk});
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(blocks->Table(1)[0], entries[0]->trunk[1]);
  EXPECT_EQ(pool_->used(), 3 * kLayers);
  EXPECT_EQ(pool_->cached(), 0);
  cache_ = nullptr;
  EXPECT_EQ(pool_->used(), 3 * kLayers);
  blocks->Release();
  EXPECT_EQ(pool_->used(), 0);
  EXPECT_EQ(pool_->cached(), 0);
}

TEST_F(PrefixCacheTest, WhatSessionsUseIsNotForgottenForNothing) {
  RunSession("", {1, 2});
  auto entries = cache_->Find("", Tokens({1}));
  auto blocks = pool_->Reserve(kLayers, 2 * kPage, {entries[0]->trunk});
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_TRUE(cache_->EvictOne());
  EXPECT_FALSE(cache_->EvictOne());
  EXPECT_EQ(Found("", {1, 2}), 1u);
}

// An entry that nobody uses stands before one that is used.
TEST_F(PrefixCacheTest, ThePoolHasWhatIsCachedInAnyCase) {
  RunSession("", {1}, 1, "one");
  RunSession("", {1, 2});
  auto entries = cache_->Find("", Tokens({1, 2}));
  auto blocks = pool_->Reserve(kLayers, 2 * kPage, {entries[0]->trunk, entries[1]->trunk});
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(pool_->cached(), 1) << "the layer of expert one";
  auto rest = pool_->Reserve(1, (pool_->total() - pool_->used()) * kPage);
  EXPECT_TRUE(rest.ok()) << rest.status();
}

TEST_F(PrefixCacheTest, StatesHaveABudget) {
  const auto insert = [&](int32_t page, int depths) {
    auto blocks = pool_->Reserve(1, kPage);
    ASSERT_TRUE(blocks.ok()) << blocks.status();
    std::vector<PrefixEntry> entries(1);
    entries[0].trunk.push_back(blocks->Table(0)[0]);
    for (int depth = 1; depth <= depths; ++depth) {
      entries[0].states[depth] = std::make_shared<const std::vector<float>>(kPage);
    }
    cache_->Insert("", Tokens({page}), std::move(entries));
  };
  insert(1, 2);
  insert(2, 2);
  EXPECT_EQ(Found("", {1}) + Found("", {2}), 2u);
  insert(2, 2);  // has them
  insert(3, 1);
  EXPECT_EQ(Found("", {1}), 0u) << "the least recently used";
  EXPECT_EQ(Found("", {2}) + Found("", {3}), 2u);
  insert(4, 5);
  EXPECT_EQ(Found("", {4}), 0u) << "more than fits";
}

TEST_F(PrefixCacheTest, ASessionMayGiveItsPagesForThoseThatAreKnown) {
  RunSession("", {1});
  auto blocks = pool_->Reserve(kLayers, 2 * kPage);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  const KvColumn column = cache_->Find("", Tokens({1}))[0]->trunk;
  blocks->Share(0, column);
  EXPECT_EQ(blocks->Table(0)[0], column[0]);
  EXPECT_EQ(pool_->used(), 2 * kLayers);
  EXPECT_EQ(pool_->cached(), 0);
  blocks->Release();
  EXPECT_EQ(pool_->cached(), kLayers);
}

TEST_F(PrefixCacheTest, NothingIsLeftWithoutIt) {
  RunSession("a", {1, 2});
  RunSession("b", {1, 2}, 1, "one");
  cache_ = nullptr;
  EXPECT_EQ(pool_->used() + pool_->cached(), 0);
}

}  // namespace
}  // namespace ccoe::runtime
