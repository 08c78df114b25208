#include "services/router/admission.h"

#include <thread>

#include "common/base/error.h"
#include "gtest/gtest.h"

namespace ccoe::router {
namespace {

TEST(AdmissionTest, RefusesBeyondItsCapacityAndSaysWhenToRetry) {
  Admission admission(2, absl::Seconds(3));
  auto first = admission.Enter(nullptr);
  auto second = admission.Enter(nullptr);
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status full = admission.Enter(nullptr).status();
  EXPECT_EQ(base::ReasonOf(full), base::Reason::kQueueFull);
  EXPECT_EQ(base::DetailsOf(full).retry_after, absl::Seconds(3));
  EXPECT_EQ(admission.active(), 2);
  first->reset();
  EXPECT_TRUE(admission.Enter(nullptr).ok());
}

TEST(AdmissionTest, DrainingRefusesTheNewAndWaitsForTheRunning) {
  Admission admission(2, absl::Seconds(1));
  auto ticket = admission.Enter(nullptr);
  ASSERT_TRUE(ticket.ok());
  admission.StartDraining();
  EXPECT_EQ(base::ReasonOf(admission.Enter(nullptr).status()), base::Reason::kDraining);
  EXPECT_FALSE(admission.WaitUntilIdle(absl::ZeroDuration()));
  std::thread leaver([&] { ticket->reset(); });
  EXPECT_TRUE(admission.WaitUntilIdle(absl::Seconds(60)));
  leaver.join();
}

}  // namespace
}  // namespace ccoe::router
