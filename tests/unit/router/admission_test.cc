#include "services/router/admission.h"

#include <thread>

#include "common/base/error.h"
#include "gtest/gtest.h"

namespace ccoe::router {
namespace {

TEST(AdmissionTest, RefusesBeyondItsCapacityAndSaysWhenToRetry) {
  Admission admission(2, absl::Seconds(3));
  auto first = admission.Enter();
  auto second = admission.Enter();
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status full = admission.Enter().status();
  EXPECT_EQ(base::ReasonOf(full), base::Reason::kQueueFull);
  EXPECT_EQ(base::DetailsOf(full).retry_after, absl::Seconds(3));
  EXPECT_EQ(admission.active(), 2);
  first->reset();
  EXPECT_TRUE(admission.Enter().ok());
}

TEST(AdmissionTest, DrainingRefusesTheNewAndWaitsForTheRunning) {
  Admission admission(2, absl::Seconds(1));
  auto ticket = admission.Enter();
  ASSERT_TRUE(ticket.ok());
  admission.StartDraining();
  EXPECT_EQ(base::ReasonOf(admission.Enter().status()), base::Reason::kDraining);
  EXPECT_FALSE(admission.WaitUntilIdle(absl::ZeroDuration()));
  std::thread leaver([&] { ticket->reset(); });
  EXPECT_TRUE(admission.WaitUntilIdle(absl::Seconds(60)));
  leaver.join();
}

}  // namespace
}  // namespace ccoe::router
