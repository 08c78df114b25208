#include "common/base/error.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>
#include <grpcpp/test/server_context_test_spouse.h>

#include <fstream>
#include <set>
#include <sstream>

#include "common/rpc/errors_doc.h"
#include "common/rpc/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace ccoe::rpc {
namespace {

using base::DetailsOf;
using base::ErrorEntry;
using base::MakeError;
using base::Reason;
using base::ReasonOf;

TEST(ErrorTableTest, EntriesStandInOrderWithUniqueNames) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < base::ErrorTable().size(); ++i) {
    const ErrorEntry& entry = base::ErrorTable()[i];
    EXPECT_EQ(static_cast<size_t>(entry.reason), i) << entry.name;
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_NE(entry.code, absl::StatusCode::kOk) << entry.name;
    EXPECT_FALSE(entry.meaning.empty()) << entry.name;
    EXPECT_FALSE(entry.remedy.empty()) << entry.name;
  }
  EXPECT_EQ(base::ErrorTable().size(), static_cast<size_t>(Reason::kInternal) + 1);
}

TEST(ErrorTableTest, EveryPlainStatusHasAReasonOfItsCode) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "plain");
    const ErrorEntry& entry = base::EntryOf(ReasonOf(status));
    if (status.code() == absl::StatusCode::kUnknown) {
      EXPECT_EQ(entry.reason, Reason::kInternal);
    } else {
      EXPECT_EQ(entry.code, status.code());
    }
  }
}

TEST(ErrorTest, ReasonAndDetailsSurviveTheWire) {
  const absl::Status sent = MakeError(Reason::kQueueFull, "9 requests wait",
                                      {.metadata = {{"max_active_requests", "9"}, {"empty", ""}},
                                       .retry_after = absl::Milliseconds(1500)});
  const grpc::Status wire = ToGrpcStatus(sent);
  EXPECT_EQ(wire.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(wire.error_message(), "9 requests wait");

  const absl::Status received = FromGrpcStatus(wire);
  EXPECT_EQ(received.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(received.message(), "9 requests wait");
  EXPECT_EQ(ReasonOf(received), Reason::kQueueFull);
  EXPECT_EQ(DetailsOf(received).retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(DetailsOf(received).metadata.size(), 2u);
}

TEST(ErrorTest, DetailsAreGooglesMessages) {
  google::rpc::Status proto;
  ASSERT_TRUE(proto.ParseFromString(
      ToGrpcStatus(MakeError(Reason::kUnknownDomain, "no",
                             {.metadata = {{"domain", "x"}}, .retry_after = {}}))
          .error_details()));
  EXPECT_EQ(proto.code(), 5);
  ASSERT_EQ(proto.details_size(), 1);
  EXPECT_EQ(proto.details(0).type_url(), "type.googleapis.com/google.rpc.ErrorInfo");
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(proto.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "UNKNOWN_DOMAIN");
  EXPECT_EQ(info.domain(), "ccoe");
  EXPECT_EQ(info.metadata().at("domain"), "x");
}

TEST(ErrorTest, AStatusOfTheTransportHasItsCodesReason) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection refused"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(status), Reason::kUnavailable);
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(ErrorTest, ForgedDetailsDoNotChangeTheCode) {
  google::rpc::Status proto = ToStatusProto(MakeError(Reason::kQueueFull, "x"));
  proto.set_code(3);
  const absl::Status status = FromStatusProto(proto);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidRequest);
}

TEST(ErrorTest, LongMessagesAreCutToWhatTrailersHold) {
  EXPECT_LE(ToGrpcStatus(absl::InternalError(std::string(100'000, 'x'))).error_message().size(),
            4096u);
}

// The value of grpc-retry-pushback-ms; empty: none.
std::string PushbackFor(const absl::Status& status) {
  grpc::ServerContext context;
  AddErrorTrailers(status, context);
  const auto trailers = grpc::testing::ServerContextTestSpouse(&context).GetTrailingMetadata();
  const auto found = trailers.find(kPushbackKey);
  return found == trailers.end() ? "" : found->second;
}

TEST(ErrorTrailersTest, TellWhetherAndWhenToRetry) {
  EXPECT_EQ(PushbackFor(MakeError(Reason::kQueueFull, "x",
                                  {.metadata = {}, .retry_after = absl::Milliseconds(1500)})),
            "1500");
  EXPECT_EQ(PushbackFor(MakeError(Reason::kUnavailable, "x")), "");
  EXPECT_EQ(PushbackFor(MakeError(Reason::kSessionTooLarge, "x")), "-1");
  EXPECT_EQ(PushbackFor(absl::InvalidArgumentError("x")), "-1");
  EXPECT_EQ(PushbackFor(absl::OkStatus()), "");
}

TEST(ErrorsDocTest, TheCommittedPageIsTheTable) {
  std::ifstream file(std::string(CCOE_TEST_SOURCE_DIR) + "/../docs/errors.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), ErrorsMarkdown()) << "run: build/bin/ccoe-errors-doc > docs/errors.md";
}

}  // namespace
}  // namespace ccoe::rpc
