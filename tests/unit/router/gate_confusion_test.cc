#include "services/router/gate_confusion.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::router {
namespace {

struct Package {
  std::string domain;
  std::string version = "1";
  std::vector<std::string> keywords = {};
  std::vector<std::string> examples = {};
  std::optional<model::GateRow> row = std::nullopt;
};

CatalogEntry Entry(const Package& package) {
  auto manifest = std::make_shared<model::ExpertManifest>();
  for (const std::string& keyword : package.keywords) {
    manifest->rules.keywords.push_back({keyword, 1});
  }
  for (const std::string& prompt : package.examples) {
    manifest->examples.push_back({prompt, "exact", 1, {}});
  }
  manifest->row = package.row;
  CatalogEntry entry;
  entry.info.key = {package.domain, package.version};
  entry.info.domain = package.domain;
  entry.info.attach_depth = 6;
  entry.manifest = std::move(manifest);
  return entry;
}

Catalog Served(const std::vector<Package>& packages) {
  Catalog catalog;
  catalog.model.hidden = 1;
  catalog.model.backbone_layers = 8;
  CatalogEntry general;
  general.info.key = {runtime::kGeneralExpert, "base"};
  general.info.domain = runtime::kGeneralExpert;
  catalog.experts.push_back(std::move(general));
  for (const Package& package : packages) catalog.experts.push_back(Entry(package));
  return catalog;
}

std::vector<std::string> Compare(const Catalog& catalog, const Package& added,
                                 const StateOf& state) {
  std::vector<std::string> lines;
  for (const GateConfusion& c : CompareGates(catalog, Entry(added), state)) {
    lines.push_back(c.domain + " " + std::to_string(c.prompts) + " " + std::to_string(c.own) + " " +
                    std::to_string(c.moved));
  }
  return lines;
}

std::optional<std::vector<float>> NoState(const std::string& /*prompt*/, int /*layer*/) {
  return std::nullopt;
}

using Lines = std::vector<std::string>;

TEST(GateConfusionTest, RulesTakePromptsAway) {
  const Catalog catalog =
      Served({{.domain = "law", .keywords = {"contract"}, .examples = {"a contract", "a will"}},
              {.domain = "sql", .keywords = {"query"}, .examples = {"a query", "a table"}}});
  EXPECT_EQ(Compare(catalog,
                    {.domain = "art",
                     .keywords = {"table", "will", "paint"},
                     .examples = {"paint", "paint", "draw"}},
                    NoState),
            (Lines{"art 2 1 1", "law 2 1 1", "sql 2 1 1"}));
  EXPECT_EQ(Compare(catalog, {.domain = "art"}, NoState),
            (Lines{"art 0 0 0", "law 2 1 0", "sql 2 1 0"}));
}

TEST(GateConfusionTest, ANewVersionsGateCountsUnlessThereAreShares) {
  const Package old{.domain = "law", .keywords = {"contract"}, .examples = {"a contract"}};
  const Package young{
      .domain = "law", .version = "2", .keywords = {"will"}, .examples = {"a will"}};
  Catalog catalog = Served({old});
  EXPECT_EQ(Compare(catalog, young, NoState), Lines{"law 2 1 2"});
  catalog.experts[1].weight = 1;
  EXPECT_EQ(Compare(catalog, young, NoState), Lines{"law 2 1 0"});
}

TEST(GateConfusionTest, RowsDecideWhatRulesLeaveOpen) {
  const Catalog catalog = Served({{.domain = "law",
                                   .keywords = {"contract"},
                                   .examples = {"a contract", "warm", "cold", "unknown"},
                                   .row = model::GateRow{4, {1}, 0, 0.5f}}});
  int asked = 0;
  const StateOf state = [&](const std::string& prompt,
                            int layer) -> std::optional<std::vector<float>> {
    ++asked;
    EXPECT_EQ(layer, 4);
    if (prompt == "unknown") return std::nullopt;
    return std::vector<float>{prompt == "warm" ? 1.0f : -1.0f};
  };
  // The other way round, and surer of itself.
  const Package added{
      .domain = "art", .examples = {"cold"}, .row = model::GateRow{4, {-2}, 0, 0.5f}};
  EXPECT_EQ(Compare(catalog, added, state), (Lines{"art 1 1 1", "law 3 2 1"}));
  EXPECT_EQ(asked, 3);  // once for each prompt that the rules leave open
}

}  // namespace
}  // namespace ccoe::router
