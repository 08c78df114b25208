#include "services/router/catalog.h"

#include <cmath>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "gtest/gtest.h"

namespace ccoe::router {
namespace {

using base::Reason;

Catalog OneDomain(const std::vector<std::pair<std::string, int>>& versions) {
  Catalog catalog;
  for (const auto& [version, weight] : versions) {
    CatalogEntry entry;
    entry.info.key = {"law", version};
    entry.info.domain = "law";
    entry.weight = weight;
    entry.manifest = std::make_shared<const model::ExpertManifest>();
    catalog.experts.push_back(std::move(entry));
  }
  return catalog;
}

std::string VersionFor(const Catalog& catalog, uint32_t draw) {
  return FindDomain(catalog, "law", draw).value()->info.key.version;
}

TEST(CatalogTest, OrdersVersionsByNumbers) {
  EXPECT_LT(CompareVersions("1.9", "1.10"), 0);
  EXPECT_GT(CompareVersions("2", "1.10"), 0);
  EXPECT_EQ(CompareVersions("1.0", "1.0"), 0);
  EXPECT_LT(CompareVersions("1", "1.1"), 0);
  EXPECT_EQ(CompareVersions("01", "1"), 0);
}

// Of ids of any kind, each share gets its part: within four standard deviations.
TEST(ChooseVersionTest, DrawsAreUniform) {
  const Catalog catalog = OneDomain({{"1", 90}, {"2", 9}, {"3", 1}});
  constexpr int kRequests = 100000;
  for (const std::string prefix : {"", "request-", "00000000-0000-4000-8000-"}) {
    std::map<std::string, int> counts;
    for (int i = 0; i < kRequests; ++i) {
      ++counts[VersionFor(catalog, DrawOf(absl::StrCat(prefix, i)))];
    }
    for (const CatalogEntry& entry : catalog.experts) {
      const double share = ShareOf(catalog, entry);
      EXPECT_EQ(share, entry.weight / 100.0);
      EXPECT_NEAR(counts[entry.info.key.version], kRequests * share,
                  4 * std::sqrt(kRequests * share * (1 - share)))
          << prefix << entry.info.key.version;
    }
  }
}

TEST(ChooseVersionTest, AnIdsDrawNeverChanges) {
  EXPECT_EQ(DrawOf(""), 4023394144u);
  EXPECT_EQ(DrawOf("request-1"), 3624887572u);
}

TEST(ChooseVersionTest, TheEdgesOfTheShares) {
  const Catalog catalog = OneDomain({{"1", 1}, {"2", 3}, {"3", 0}});
  EXPECT_EQ(VersionFor(catalog, 0), "2");
  EXPECT_EQ(VersionFor(catalog, (uint32_t{3} << 30) - 1), "2");
  EXPECT_EQ(VersionFor(catalog, uint32_t{3} << 30), "1");
  EXPECT_EQ(VersionFor(catalog, UINT32_MAX), "1");
  Catalog large;
  for (int i = 0; i < 1024; ++i) {
    Catalog one = OneDomain({{absl::StrCat(i), kMaxWeight}});
    large.experts.push_back(one.experts[0]);
  }
  EXPECT_EQ(VersionFor(large, UINT32_MAX), "0");
  EXPECT_EQ(VersionFor(large, 0), "1023");
}

TEST(ChooseVersionTest, AGrowingShareKeepsItsRequests) {
  std::set<uint32_t> had;
  for (int weight = 0; weight <= 100; weight += 5) {
    const Catalog catalog = OneDomain({{"1", 100 - weight}, {"2", weight}});
    for (uint32_t draw = 0; draw < 4000000000u; draw += 50000017) {
      if (VersionFor(catalog, draw) == "2") {
        had.insert(draw);
      } else {
        EXPECT_FALSE(had.contains(draw));
      }
    }
  }
}

TEST(ChooseVersionTest, WithoutWeightsTheHighestVersionHasAll) {
  const Catalog catalog = OneDomain({{"1.9", 0}, {"1.10", 0}});
  EXPECT_EQ(VersionFor(catalog, 0), "1.10");
  EXPECT_EQ(VersionFor(catalog, UINT32_MAX), "1.10");
  EXPECT_EQ(ShareOf(catalog, catalog.experts[0]), 0);
  EXPECT_EQ(ShareOf(catalog, catalog.experts[1]), 1);
}

TEST(ChooseVersionTest, AVersionWithoutAReplicaLeavesItsShareToTheOthers) {
  Catalog catalog = OneDomain({{"1", 1}, {"2", 9}});
  catalog.experts[1].info.healthy = false;
  EXPECT_EQ(VersionFor(catalog, 0), "1");
  EXPECT_EQ(ShareOf(catalog, catalog.experts[0]), 1);
  EXPECT_EQ(ShareOf(catalog, catalog.experts[1]), 0);
}

TEST(ChooseVersionTest, ANamedVersionWins) {
  const Catalog catalog = OneDomain({{"1", 1}, {"2", 0}});
  EXPECT_EQ(ChooseExpert(catalog, {"law", ""}, 0).value()->info.key.version, "1");
  EXPECT_EQ(ChooseExpert(catalog, {"law", "2"}, 0).value()->info.key.version, "2");
  EXPECT_EQ(FindExpert(catalog, {"law", ""}).value()->info.key.version, "2");
}

TEST(DomainPackagesTest, TheLargestWeightsGateCounts) {
  const auto first = [](const Catalog& catalog) {
    return DomainPackages(catalog).at(0)->info.key.version;
  };
  EXPECT_EQ(first(OneDomain({{"1", 0}, {"2", 0}})), "2");
  EXPECT_EQ(first(OneDomain({{"1", 51}, {"2", 49}})), "1");
  EXPECT_EQ(first(OneDomain({{"1", 50}, {"2", 50}})), "2");
}

TEST(SetWeightsTest, SetsThemAll) {
  Catalog catalog = OneDomain({{"1", 5}, {"2", 0}});
  const VersionWeight two[] = {{{"", "2"}, 7}};
  ASSERT_TRUE(SetWeights("law", two, &catalog).ok());
  EXPECT_EQ(catalog.experts[0].weight, 0);
  EXPECT_EQ(catalog.experts[1].weight, 7);
  ASSERT_TRUE(SetWeights("law", {}, &catalog).ok());
  EXPECT_EQ(catalog.experts[1].weight, 0);
}

TEST(SetWeightsTest, RefusesWhatIsAmbiguous) {
  Catalog catalog = OneDomain({{"1", 5}, {"1", 0}});
  catalog.experts[1].info.key.name = "law-b";
  const auto reason = [&](std::vector<VersionWeight> weights) {
    return base::ReasonOf(SetWeights("law", weights, &catalog));
  };
  EXPECT_EQ(reason({{{"", "1"}, 1}}), Reason::kInvalidRequest);
  EXPECT_EQ(reason({{{"law", "1"}, 1}, {{"law", "1"}, 1}}), Reason::kInvalidRequest);
  EXPECT_EQ(reason({{{"law", "1"}, kMaxWeight + 1}}), Reason::kInvalidRequest);
  EXPECT_EQ(reason({{{"law-c", "1"}, 1}}), Reason::kUnknownExpert);
  EXPECT_EQ(base::ReasonOf(SetWeights("art", {}, &catalog)), Reason::kUnknownDomain);
  EXPECT_EQ(catalog.experts[0].weight, 5);
  const VersionWeight good[] = {{{"law", "1"}, 1}, {{"law-b", "1"}, 3}};
  ASSERT_TRUE(SetWeights("law", good, &catalog).ok());
  EXPECT_EQ(catalog.experts[1].weight, 3);
}

}  // namespace
}  // namespace ccoe::router
