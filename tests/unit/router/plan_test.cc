#include "services/router/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"

namespace ccoe::router {
namespace {

using ::testing::ElementsAre;

RouteDecision Of(const std::string& domain, RouteStage stage = RouteStage::kRules,
                 double confidence = 1) {
  RouteDecision decision;
  decision.domain = domain;
  decision.stage = stage;
  decision.confidence = confidence;
  return decision;
}

std::vector<std::string> InstructionsOf(const std::vector<PlannedStep>& steps) {
  std::vector<std::string> instructions;
  for (const PlannedStep& step : steps) instructions.push_back(step.instruction);
  return instructions;
}

TEST(SplitInstructionsTest, CutsBeforeFurtherInstructions) {
  EXPECT_THAT(
      SplitInstructions("Write the SQL for the monthly revenue, then a Python function that "
                        "runs it and explain the tax rule that applies."),
      ElementsAre("Write the SQL for the monthly revenue, ", "then a Python function that runs it ",
                  "and explain the tax rule that applies."));
  EXPECT_THAT(SplitInstructions("What is a tort? Solve 3x + 4 = 10 for x."),
              ElementsAre("What is a tort? ", "Solve 3x + 4 = 10 for x."));
  EXPECT_THAT(SplitInstructions("Count the open orders in SQL, write a test for it in Python"),
              ElementsAre("Count the open orders in SQL, ", "write a test for it in Python"));
  EXPECT_THAT(SplitInstructions("Do this:\n1. Query all the customers\n2. Explain the statute"),
              ElementsAre("Do this:\n1. Query all the customers\n", "2. Explain the statute"));
}

TEST(SplitInstructionsTest, LeavesTheRestAlone) {
  EXPECT_THAT(SplitInstructions(""), ElementsAre());
  EXPECT_THAT(SplitInstructions("one"), ElementsAre("one"));
  const std::string one = "How do bread and butter differ, and why, in taste and price";
  EXPECT_THAT(SplitInstructions(one), ElementsAre(one));
  const std::string fenced = "Explain this:\n```\na = 1. \n\nand write it; then stop it all\n```";
  EXPECT_THAT(SplitInstructions(fenced), ElementsAre(fenced));
  for (const std::string quoted :
       {"Summarise this text: \"Mr. Brown owns a farm. Is that a tort? Then he sold it all.\"",
        "Explain what `a = 1; b = c + d; return a` does"}) {
    EXPECT_THAT(SplitInstructions(quoted), ElementsAre(quoted));
  }
  EXPECT_THAT(SplitInstructions("Given the table orders(id, name, count), count the rows of it"),
              ElementsAre("Given the table orders(id, name, count), ", "count the rows of it"));
  EXPECT_THAT(SplitInstructions("Explain the statute of limitations. Thanks!"),
              ElementsAre("Explain the statute of limitations. Thanks!"));
}

TEST(SplitInstructionsTest, ThePartsAreTheText) {
  const std::string text =
      "A table t (a, b). Give all rows; then\xC3\xA9 prove it.\n\n- one two three\n- four five six "
      "and finally tell me what the law says,\tlist the rest of it . . . ```x y z. then a b c";
  std::string joined;
  for (const absl::string_view part : SplitInstructions(text)) joined += std::string(part);
  EXPECT_EQ(joined, text);
}

TEST(SplitInstructionsTest, IsLinear) {
  for (const std::string piece : {" ", "? ", "one two three. ", "- a b c\n", "and then ", "1. "}) {
    std::string text = "a";
    while (text.size() < size_t{60} << 10) text += piece;
    text += "b c d";
    const absl::Time begin = absl::Now();
    EXPECT_LE(SplitInstructions(text).size(), size_t{kMaxPlanSteps} + 1);
    EXPECT_LT(absl::Now() - begin, absl::Seconds(1)) << piece;
  }
  EXPECT_THAT(SplitInstructions(std::string(size_t{4} << 20, '?')), ::testing::SizeIs(1));
}

TEST(JoinStepsTest, WhatNeitherCommandsNorAsksIsNoStep) {
  const std::string text = "Tom has three apples. The law says so. How many are left?";
  const absl::string_view view = text;
  const std::vector<absl::string_view> parts = {view.substr(0, 22), view.substr(22, 17),
                                                view.substr(39)};
  EXPECT_THAT(InstructionsOf(
                  JoinSteps(parts, std::vector<RouteDecision>{Of("math"), Of("law"), Of("math")})),
              ElementsAre(text));
}

TEST(JoinStepsTest, NeighboursOfOneDomainAreOneStep) {
  const std::string text = "Write the query, and add an index then solve the equation";
  const absl::string_view view = text;
  const std::vector<absl::string_view> parts = {view.substr(0, 17), view.substr(17, 17),
                                                view.substr(34)};
  const std::vector<PlannedStep> steps =
      JoinSteps(parts, std::vector<RouteDecision>{Of("sql"), Of("sql"), Of("math")});
  EXPECT_THAT(InstructionsOf(steps),
              ElementsAre("Write the query, and add an index", "then solve the equation"));
  EXPECT_EQ(steps[1].part, 2u);
}

TEST(JoinStepsTest, WhatIsUnsureGoesWithItsNeighbour) {
  const std::string text = "Hello there you, write the query, then thank me, and solve it";
  const absl::string_view view = text;
  const std::vector<absl::string_view> parts = {view.substr(0, 17), view.substr(17, 17),
                                                view.substr(34, 15), view.substr(49)};
  const RouteDecision unsure = Of("law", RouteStage::kLearned, 0.55);
  const RouteDecision none = Of("general", RouteStage::kFallback, 0.9);
  EXPECT_THAT(InstructionsOf(JoinSteps(
                  parts, std::vector<RouteDecision>{none, Of("sql"), unsure, Of("math")})),
              ElementsAre("Hello there you, write the query, then thank me", "solve it"));
  EXPECT_THAT(JoinSteps(parts, std::vector<RouteDecision>{none, unsure, none, none}),
              ::testing::IsEmpty());
  EXPECT_THAT(JoinSteps(parts, std::vector<RouteDecision>{none, Of("sql"), none, none}),
              ::testing::SizeIs(1));
}

}  // namespace
}  // namespace ccoe::router
