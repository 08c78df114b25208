#include "services/router/caller.h"

#include "common/base/error.h"
#include "gtest/gtest.h"
#include "services/router/admission.h"
#include "services/router/token_bucket.h"

namespace ccoe::router {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

internal::v1::ApiKey Key(int max_concurrent_requests, int tokens_per_minute) {
  internal::v1::ApiKey key;
  key.set_name("team-a");
  key.set_max_concurrent_requests(max_concurrent_requests);
  key.set_tokens_per_minute(tokens_per_minute);
  return key;
}

TEST(TokenBucketTest, HoldsTheTokensOfAMinute) {
  TokenBucket bucket;
  EXPECT_EQ(bucket.Wait(kNow), absl::ZeroDuration());
  bucket.Take(59, 60, kNow);
  EXPECT_EQ(bucket.Wait(kNow), absl::ZeroDuration());
  bucket.Take(1, 60, kNow);
  EXPECT_EQ(bucket.Wait(kNow), absl::Milliseconds(1));
}

TEST(TokenBucketTest, FillsEvenlyAndNotBeyondAMinute) {
  TokenBucket bucket;
  bucket.Take(60, 60, kNow);
  bucket.Take(5, 60, kNow + absl::Seconds(10));
  EXPECT_EQ(bucket.Wait(kNow + absl::Seconds(10)), absl::ZeroDuration());
  bucket.Take(60, 60, kNow + absl::Hours(1));
  EXPECT_GT(bucket.Wait(kNow + absl::Hours(1)), absl::ZeroDuration());
}

TEST(TokenBucketTest, TellsHowLongItIsOverdrawn) {
  TokenBucket bucket;
  bucket.Take(90, 60, kNow);
  const absl::Duration wait = bucket.Wait(kNow);
  EXPECT_EQ(wait, absl::Seconds(30) + absl::Milliseconds(1));
  EXPECT_GT(bucket.Wait(kNow + wait - absl::Milliseconds(1)), absl::ZeroDuration());
  EXPECT_EQ(bucket.Wait(kNow + wait), absl::ZeroDuration());
}

TEST(CallerTest, RefusesMoreRequestsThanItMayHave) {
  const auto caller = std::make_shared<Caller>(Key(2, 0));
  auto first = caller->Enter(kNow);
  const auto second = caller->Enter(kNow);
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status refused = caller->Enter(kNow).status();
  EXPECT_EQ(base::ReasonOf(refused), base::Reason::kKeyConcurrency);
  EXPECT_GT(base::DetailsOf(refused).retry_after, absl::ZeroDuration());
  first->reset();
  EXPECT_TRUE(caller->Enter(kNow).ok());
}

TEST(CallerTest, RefusesUntilItHasTokensAgain) {
  const auto caller = std::make_shared<Caller>(Key(0, 60));
  caller->Charge(60 + 30, kNow);
  const absl::Status refused = caller->Enter(kNow).status();
  EXPECT_EQ(base::ReasonOf(refused), base::Reason::kKeyTokens);
  const absl::Duration wait = *base::DetailsOf(refused).retry_after;
  EXPECT_EQ(absl::Trunc(wait, absl::Seconds(1)), absl::Seconds(30));
  EXPECT_FALSE(caller->Enter(kNow + wait - absl::Milliseconds(1)).ok());
  EXPECT_TRUE(caller->Enter(kNow + wait).ok());
  EXPECT_EQ(caller->tokens(), 90);
}

TEST(CallerTest, AChangeOfItsLimitsKeepsWhatIsUnderWay) {
  const auto caller = std::make_shared<Caller>(Key(0, 0));
  caller->Charge(1000, kNow);
  const auto place = caller->Enter(kNow);
  caller->Update(Key(1, 60));
  EXPECT_EQ(base::ReasonOf(caller->Enter(kNow).status()), base::Reason::kKeyConcurrency);
  EXPECT_EQ(caller->active(), 1);
}

TEST(CallerTest, OneKeyLeavesPlacesForOthers) {
  Admission admission(10, absl::Seconds(1));
  const auto caller = std::make_shared<Caller>(Key(0, 0));
  std::vector<std::unique_ptr<Admission::Ticket>> tickets;
  while (true) {
    auto ticket = admission.Enter(caller);
    if (!ticket.ok()) {
      EXPECT_EQ(base::ReasonOf(ticket.status()), base::Reason::kQueueFull);
      break;
    }
    tickets.push_back(*std::move(ticket));
  }
  EXPECT_EQ(tickets.size(), 8u);
  EXPECT_EQ(caller->active(), 8);  // the refused one has left
  internal::v1::ApiKey other = Key(0, 0);
  other.set_name("team-b");
  EXPECT_TRUE(admission.Enter(std::make_shared<Caller>(other)).ok());
  tickets.clear();
  EXPECT_EQ(caller->active(), 0);
}

}  // namespace
}  // namespace ccoe::router
