#include "services/router/gate.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "gtest/gtest.h"
#include "services/router/catalog.h"
#include "services/router/router_core.h"

namespace ccoe::router {
namespace {

CatalogEntry General() {
  CatalogEntry entry;
  entry.info.key = {runtime::kGeneralExpert, "base"};
  entry.info.domain = runtime::kGeneralExpert;
  return entry;
}

CatalogEntry Expert(const std::string& domain, const std::string& version,
                    std::vector<model::GateKeyword> keywords,
                    const std::vector<std::pair<std::string, double>>& patterns = {},
                    double threshold = 1) {
  auto manifest = std::make_shared<model::ExpertManifest>();
  manifest->name = domain + "-expert";
  manifest->version = version;
  manifest->domain = domain;
  manifest->rules.threshold = threshold;
  manifest->rules.keywords = std::move(keywords);
  for (const auto& [regex, weight] : patterns) {
    manifest->rules.patterns.push_back({regex, weight, model::Regex::Compile(regex).value()});
  }
  CatalogEntry entry;
  entry.info.key = {manifest->name, version};
  entry.info.domain = domain;
  entry.manifest = std::move(manifest);
  return entry;
}

Catalog TwoDomains() {
  Catalog catalog;
  catalog.experts = {General(),
                     Expert("sql", "1", {{"SELECT", 1}, {"group by", 1}, {"C++", 0.5}},
                            {{R"(\bCREATE\s+TABLE\b)", 2}}),
                     Expert("law", "1", {{"contract", 1}, {"group", 0.5}}, {}, 2)};
  return catalog;
}

TEST(GateTest, KeywordsAreWholeWordsInAnyCase) {
  const GateRules gate(TwoDomains());
  EXPECT_EQ(gate.Decide("please select the names").domain, "sql");
  EXPECT_EQ(gate.Decide("SELECT").domain, "sql");
  EXPECT_EQ(gate.Decide("a selection of preselect things").domain, "general");
  EXPECT_EQ(gate.Decide("Then Group By name.").domain, "sql");
  EXPECT_EQ(gate.Decide("group bypass").domain, "general");
  EXPECT_EQ(gate.Decide("s\xc3\xa9lect select\xc3\xa9").domain, "general");
}

TEST(GateTest, EachRuleCountsOnce) {
  const GateRules gate(TwoDomains());
  const RouteDecision once = gate.Decide("select");
  const RouteDecision thrice = gate.Decide("select select select");
  EXPECT_EQ(once.confidence, thrice.confidence);
  EXPECT_EQ(thrice.scores[0].score, 1);
}

TEST(GateTest, SignsBelongToKeywords) {
  const GateRules gate(TwoDomains());
  const RouteDecision decision = gate.Decide("written in c++, not in C");
  EXPECT_EQ(decision.scores[0].domain, "sql");
  EXPECT_EQ(decision.scores[0].score, 0.5);
  EXPECT_EQ(gate.Decide("written in c").scores[0].score, 0);
}

TEST(GateTest, PatternsCount) {
  const GateRules gate(TwoDomains());
  const RouteDecision decision = gate.Decide("CREATE  TABLE t (a int)");
  EXPECT_EQ(decision.domain, "sql");
  EXPECT_EQ(decision.stage, RouteStage::kRules);
  EXPECT_EQ(decision.scores[0].score, 2);
}

TEST(GateTest, FallsBackToGeneralBelowTheThreshold) {
  const GateRules gate(TwoDomains());
  const RouteDecision nothing = gate.Decide("tell me a story");
  EXPECT_EQ(nothing.domain, "general");
  EXPECT_EQ(nothing.stage, RouteStage::kFallback);
  EXPECT_EQ(nothing.confidence, 1);
  EXPECT_EQ(nothing.runner_up, "");
  const RouteDecision half = gate.Decide("a contract");
  EXPECT_EQ(half.domain, "general");
  EXPECT_EQ(half.runner_up, "law");
  EXPECT_LT(half.confidence, 1);
  EXPECT_GE(half.confidence, 0.5);
}

TEST(GateTest, ConfidenceGrowsWithTheScoreAndFallsWithTheRunnerUp) {
  const GateRules gate(TwoDomains());
  const double one = gate.Decide("select").confidence;
  const double two = gate.Decide("select, group by").confidence;
  const double four = gate.Decide("select, group by; CREATE TABLE").confidence;
  EXPECT_EQ(one, 0.5);
  EXPECT_GT(two, one);
  EXPECT_GT(four, two);
  EXPECT_LT(four, 1);

  Catalog rivals;
  rivals.experts = {General(), Expert("a", "1", {{"x", 3}}), Expert("b", "1", {{"y", 2}})};
  const GateRules rival_gate(rivals);
  EXPECT_EQ(rival_gate.Decide("x").runner_up, "general");
  EXPECT_EQ(rival_gate.Decide("x y").runner_up, "b");
  EXPECT_LT(rival_gate.Decide("x y").confidence, rival_gate.Decide("x").confidence);
}

TEST(GateTest, TheNewestVersionsRulesCount) {
  Catalog catalog;
  catalog.experts = {General(), Expert("a", "1.9", {{"old", 1}}),
                     Expert("a", "1.10", {{"new", 1}})};
  const GateRules gate(catalog);
  EXPECT_EQ(gate.Decide("new").domain, "a");
  EXPECT_EQ(gate.Decide("old").domain, "general");
}

TEST(GateTest, LongTextsAreLookedAtAtBothEnds) {
  const GateRules gate(TwoDomains());
  const std::string filler(1 << 20, 'z');
  EXPECT_EQ(gate.Decide("select " + filler).domain, "sql");
  EXPECT_EQ(gate.Decide(filler + " select").domain, "sql");
  EXPECT_EQ(gate.Decide(filler + " select " + filler).domain, "general");
  EXPECT_EQ(gate.Decide(std::string("\xff\xfe select \x00\x80", 12)).domain, "sql");
  EXPECT_EQ(gate.Decide("").domain, "general");
}

absl::StatusOr<RouteDecision> Decide(const Catalog& catalog, const Target& target,
                                     const RoutingPolicy& policy, std::string_view text) {
  CCOE_ASSIGN_OR_RETURN(std::optional<RouteDecision> decision,
                        DecideRoute(catalog, Gate(catalog), target, policy, text));
  if (!decision.has_value()) return absl::InternalError("left to the prompt's state");
  return *std::move(decision);
}

// An expert of `domain` whose row is `weights`, without a bias, at a threshold of one half.
CatalogEntry ExpertWithRow(const std::string& domain, std::vector<float> weights,
                           int routing_layer = 4) {
  CatalogEntry entry = Expert(domain, "1", {{domain, 1}});
  auto manifest = std::make_shared<model::ExpertManifest>(*entry.manifest);
  manifest->row = model::GateRow{routing_layer, std::move(weights), 0, 0.5f};
  entry.info.attach_depth = 6;
  entry.manifest = std::move(manifest);
  return entry;
}

Catalog WithRows() {
  Catalog catalog;
  catalog.model.hidden = 2;
  catalog.model.backbone_layers = 8;
  catalog.experts = {General(), ExpertWithRow("sql", {4, 0}), ExpertWithRow("law", {0, 2})};
  return catalog;
}

TEST(GateRowsTest, TheStrongestClaimWins) {
  const GateRows rows(WithRows());
  EXPECT_EQ(rows.routing_layer(), 4);
  const std::vector<float> sql = {1, 0.5f};
  const RouteDecision both = rows.Decide(sql);
  EXPECT_EQ(both.domain, "sql");
  EXPECT_EQ(both.stage, RouteStage::kLearned);
  EXPECT_EQ(both.runner_up, "law");
  EXPECT_NEAR(both.confidence, 1 / (1 + std::exp(-4.0)), 1e-9);
  ASSERT_EQ(both.scores.size(), 2u);
  EXPECT_NEAR(both.scores[1].score, 1 / (1 + std::exp(-1.0)), 1e-9);

  const std::vector<float> none = {-1, -3};
  const RouteDecision nobody = rows.Decide(none);
  EXPECT_EQ(nobody.domain, "general");
  EXPECT_EQ(nobody.stage, RouteStage::kFallback);
  EXPECT_EQ(nobody.runner_up, "sql");
  EXPECT_NEAR(nobody.confidence, 1 - 1 / (1 + std::exp(4.0)), 1e-9);
}

// A high threshold is not beaten by a low one for being hard to reach.
TEST(GateRowsTest, ClaimsAreComparedByTheirOdds) {
  Catalog catalog = WithRows();
  auto manifest = std::make_shared<model::ExpertManifest>(*catalog.experts[2].manifest);
  manifest->row->threshold = 0.1f;
  catalog.experts[2].manifest = manifest;
  const std::vector<float> state = {1, 0.3f};  // logits 4 and 0.6; the thresholds' are 0 and -2.2
  EXPECT_EQ(GateRows(catalog).Decide(state).domain, "sql");
  const std::vector<float> low = {-1, -1};  // logits -4 and -2
  EXPECT_EQ(GateRows(catalog).Decide(low).domain, "law");
}

TEST(GateRowsTest, RowsThatDoNotFitAreLeftOut) {
  Catalog catalog = WithRows();
  catalog.experts.push_back(ExpertWithRow("code", {1, 2, 3}));
  catalog.experts.push_back(ExpertWithRow("math", {1, 2}, 5));
  // By domain: code's is too wide, and law's layer is that of the rest.
  const GateRows rows(catalog);
  EXPECT_EQ(rows.routing_layer(), 4);
  EXPECT_EQ(rows.unused(), 2);
  catalog.experts.push_back(Expert("art", "1", {}));
  catalog.experts.back().info.attach_depth = 3;  // shares fewer layers than the gate needs
  EXPECT_EQ(GateRows(catalog).routing_layer(), 0);
  Catalog shallow = WithRows();
  shallow.model.backbone_layers = 3;
  EXPECT_EQ(GateRows(shallow).routing_layer(), 0);
}

TEST(DecideRouteTest, RowsAreAskedWhereRulesAreUnsure) {
  const Catalog catalog = WithRows();
  const Gate gate(catalog);
  const auto by_rules = DecideRoute(catalog, gate, Target(), {}, "sql please");
  ASSERT_TRUE(by_rules.ok() && by_rules->has_value());
  EXPECT_EQ((*by_rules)->stage, RouteStage::kRules);
  RoutingPolicy policy;
  policy.on_unsure = RoutingPolicy::OnUnsure::kFail;
  const auto left = DecideRoute(catalog, gate, Target(), policy, "a story");
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_FALSE(left->has_value());

  const std::vector<float> law = {-1, 1}, nobody = {-1, -1}, narrow = {1};
  const auto decision = DecideRouteByState(catalog, gate, policy, law);
  ASSERT_TRUE(decision.ok()) << decision.status();
  EXPECT_EQ(decision->domain, "law");
  EXPECT_EQ(decision->expert.name, "law-expert");
  EXPECT_EQ(base::ReasonOf(DecideRouteByState(catalog, gate, policy, nobody).status()),
            base::Reason::kRouteUnsure);
  policy.min_confidence = 0.99;
  EXPECT_EQ(base::ReasonOf(DecideRouteByState(catalog, gate, policy, law).status()),
            base::Reason::kRouteUnsure);
  EXPECT_EQ(DecideRouteByState(catalog, gate, {}, nobody)->expert.name, "general");
  EXPECT_FALSE(DecideRouteByState(catalog, gate, {}, narrow).ok());
}

TEST(DecideRouteTest, AnExplicitTargetWins) {
  const Catalog catalog = TwoDomains();
  const auto decision = Decide(catalog, Target(std::string("law")), {}, "select group by");
  ASSERT_TRUE(decision.ok());
  EXPECT_EQ(decision->domain, "law");
  EXPECT_EQ(decision->expert.name, "law-expert");
  EXPECT_EQ(decision->stage, RouteStage::kExplicit);
  EXPECT_EQ(decision->confidence, 1);
  const auto expert = Decide(catalog, Target(runtime::ExpertKey{"sql-expert", ""}), {}, "nothing");
  ASSERT_TRUE(expert.ok());
  EXPECT_EQ(expert->expert.version, "1");
}

TEST(DecideRouteTest, UnknownTargetsAreNotFound) {
  const Catalog catalog = TwoDomains();
  const auto domain = Decide(catalog, Target(std::string("art")), {}, "x").status();
  EXPECT_EQ(domain.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(domain), base::Reason::kUnknownDomain);
  const auto expert =
      Decide(catalog, Target(runtime::ExpertKey{"sql-expert", "7"}), {}, "x").status();
  EXPECT_EQ(base::ReasonOf(expert), base::Reason::kUnknownExpert);
}

TEST(DecideRouteTest, UnsureDecisionsFollowThePolicy) {
  const Catalog catalog = TwoDomains();
  RoutingPolicy policy;
  policy.min_confidence = 0.6;
  const auto general = Decide(catalog, Target(), policy, "select");
  ASSERT_TRUE(general.ok());
  EXPECT_EQ(general->domain, "general");
  EXPECT_EQ(general->expert.name, "general");
  EXPECT_EQ(general->stage, RouteStage::kFallback);
  EXPECT_EQ(general->runner_up, "sql");
  EXPECT_EQ(Decide(catalog, Target(), policy, "select group by")->domain, "sql");
  policy.on_unsure = RoutingPolicy::OnUnsure::kFail;
  const auto failed = Decide(catalog, Target(), policy, "select").status();
  EXPECT_EQ(failed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(base::ReasonOf(failed), base::Reason::kRouteUnsure);
  policy.min_confidence = 0;
  EXPECT_TRUE(Decide(catalog, Target(), policy, "select").ok());
  EXPECT_FALSE(Decide(catalog, Target(), policy, "a story").ok());
}

TEST(DecideRouteTest, AReplicaIsPreferredToAHigherVersion) {
  Catalog catalog;
  catalog.experts = {General(), Expert("a", "1", {{"x", 1}}), Expert("a", "2", {{"x", 1}})};
  EXPECT_EQ(Decide(catalog, Target(), {}, "x")->expert.version, "2");
  catalog.experts[2].info.healthy = false;
  EXPECT_EQ(Decide(catalog, Target(), {}, "x")->expert.version, "1");
}

}  // namespace
}  // namespace ccoe::router
