#include "services/cli/exit_code.h"

#include "common/base/error.h"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

using base::Reason;

ExitCode CodeFor(Reason reason) { return ExitCodeOf(base::MakeError(reason, "no")); }

TEST(ExitCodeTest, BusyIsWhatMaySucceedLater) {
  EXPECT_EQ(CodeFor(Reason::kQueueFull), ExitCode::kBusy);
  EXPECT_EQ(CodeFor(Reason::kQueueTimeout), ExitCode::kBusy);
  EXPECT_EQ(CodeFor(Reason::kDraining), ExitCode::kBusy);
  EXPECT_EQ(CodeFor(Reason::kBackboneUnavailable), ExitCode::kBusy);
  EXPECT_EQ(CodeFor(Reason::kSessionTooLarge), ExitCode::kFailed);
  EXPECT_EQ(CodeFor(Reason::kPromptTooLong), ExitCode::kFailed);
}

TEST(ExitCodeTest, NothingThatMustNotBeRetriedIsBusy) {
  for (const base::ErrorEntry& entry : base::ErrorTable()) {
    if (entry.retry != base::Retry::kLater) {
      EXPECT_NE(CodeFor(entry.reason), ExitCode::kBusy) << entry.name;
    }
  }
}

}  // namespace
}  // namespace ccoe::cli
