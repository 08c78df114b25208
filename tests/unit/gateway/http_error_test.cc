#include "services/gateway/http_error.h"

#include "absl/time/time.h"
#include "common/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::gateway {
namespace {

using base::Reason;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(ErrorResponseTest, EveryReasonHasAStatusAndAPhrase) {
  for (const base::ErrorEntry& entry : base::ErrorTable()) {
    const HttpResponse response = ErrorResponse(base::MakeError(entry.reason, "x"));
    EXPECT_GE(response.status, 400) << entry.name;
    EXPECT_FALSE(ReasonPhrase(response.status).empty()) << entry.name;
    EXPECT_NE(ReasonPhrase(response.status), "<unknown-status>") << entry.name;
  }
}

TEST(ErrorResponseTest, HasOpenAisShape) {
  EXPECT_EQ(ErrorResponse(base::MakeError(Reason::kInternal, "broken")).body,
            R"({"error":{"message":"broken","type":"server_error","param":null,)"
            R"("code":"internal"}})");
  EXPECT_EQ(ErrorResponse(base::MakeError(Reason::kUnknownDomain, "x")).status, 404);
  EXPECT_EQ(ErrorJson(base::MakeError(Reason::kUnknownDomain, "x"))["error"]["code"],
            "model_not_found");
  EXPECT_EQ(ErrorJson(base::MakeError(Reason::kPromptTooLong, "x"))["error"]["code"],
            "context_length_exceeded");
  EXPECT_EQ(ErrorJson(absl::UnauthenticatedError("x"))["error"]["type"], "authentication_error");
}

TEST(ErrorResponseTest, TellsWhenToTryAgain) {
  const base::ErrorDetails details{.metadata = {}, .retry_after = absl::Microseconds(1200100)};
  const HttpResponse later = ErrorResponse(base::MakeError(Reason::kQueueFull, "x", details));
  EXPECT_EQ(later.status, 429);
  EXPECT_THAT(later.headers, ElementsAre(Pair("Retry-After", "2"), Pair("Retry-After-Ms", "1201")));
  EXPECT_THAT(ErrorResponse(base::MakeError(Reason::kDraining, "x")).headers, IsEmpty());
  EXPECT_THAT(ErrorResponse(base::MakeError(Reason::kSessionTooLarge, "x")).headers,
              ElementsAre(Pair("X-Should-Retry", "false")));
}

TEST(ErrorResponseTest, BytesThatAreNoTextDoNotBreakIt) {
  EXPECT_EQ(ErrorResponse(404, "not_found", "no \xFF").body,
            "{\"error\":{\"message\":\"no \xEF\xBF\xBD\",\"type\":\"invalid_request_error\","
            "\"param\":null,\"code\":\"not_found\"}}");
}

}  // namespace
}  // namespace ccoe::gateway
