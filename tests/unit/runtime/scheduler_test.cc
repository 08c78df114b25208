#include "common/runtime/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ccoe::runtime {
namespace {

using ::testing::ElementsAre;

TEST(SchedulerTest, PrefillAloneFillsTheStep) {
  const std::vector<Runnable> runnables = {{.rows = 100}, {.rows = 300}};
  EXPECT_THAT(Schedule(runnables, {}, {.max_step_rows = 256, .mixed_prefill_rows = 64}),
              ElementsAre(100, 156));
}

TEST(SchedulerTest, DecodeGoesFirstAndBoundsPrefill) {
  const std::vector<Runnable> runnables = {
      {.rows = 300}, {.rows = 1, .decode = true}, {.rows = 1, .decode = true}};
  EXPECT_THAT(Schedule(runnables, {}, {.max_step_rows = 256, .mixed_prefill_rows = 64}),
              ElementsAre(64, 1, 1));
}

TEST(SchedulerTest, APromptGoesBeforeTheAnswersOfKeysThatHaveHadMore) {
  const std::vector<Runnable> runnables = {
      {.rows = 1, .decode = true, .served = 10}, {.rows = 62, .served = 10},
      {.rows = 1, .decode = true, .served = 20}, {.rows = 1, .decode = true, .served = 20},
      {.rows = 1, .decode = true, .served = 30}, {.rows = 50, .served = 30}};
  EXPECT_THAT(Schedule(runnables, {}, {.max_step_rows = 256, .mixed_prefill_rows = 64}),
              ElementsAre(1, 62, 1, 1, 0, 0));
}

TEST(SchedulerTest, AnswersOfAKeyThatHasHadLessDoNotBoundAnothersPrompt) {
  const std::vector<Runnable> runnables = {{.rows = 1, .decode = true, .served = 10},
                                           {.rows = 1, .decode = true, .served = 20},
                                           {.rows = 100, .served = 20}};
  EXPECT_THAT(Schedule(runnables, {}, {.max_step_rows = 256, .mixed_prefill_rows = 64}),
              ElementsAre(1, 1, 64));
}

TEST(SchedulerTest, NeverExceedsTheStep) {
  const std::vector<Runnable> runnables(10, {.rows = 1, .decode = true});
  EXPECT_THAT(Schedule(runnables, {}, {.max_step_rows = 4, .mixed_prefill_rows = 2}),
              ElementsAre(1, 1, 1, 1, 0, 0, 0, 0, 0, 0));
}

TEST(SchedulerTest, RowsThatLeaveStayWithinTheirLinksCredit) {
  const std::vector<Runnable> runnables = {{.rows = 1, .decode = true, .link = 0},
                                           {.rows = 50, .link = 0},
                                           {.rows = 50, .link = 1},
                                           {.rows = 50}};
  EXPECT_THAT(Schedule(runnables, {11, 0}, {.max_step_rows = 256, .mixed_prefill_rows = 64}),
              ElementsAre(1, 10, 0, 50));
}

TEST(SchedulerTest, DecodeWithoutCreditWaitsAndDoesNotBoundPrefill) {
  const std::vector<Runnable> runnables = {{.rows = 1, .decode = true, .link = 0}, {.rows = 200}};
  EXPECT_THAT(Schedule(runnables, {0}, {.max_step_rows = 256, .mixed_prefill_rows = 64}),
              ElementsAre(0, 200));
}

}  // namespace
}  // namespace ccoe::runtime
