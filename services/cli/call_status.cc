#include "services/cli/call_status.h"

#include <grpcpp/support/status.h>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/error.h"
#include "common/rpc/status.h"

namespace ccoe::cli {
namespace {

constexpr char kUnreachablePayload[] = "ccoe.cli/unreachable";

}  // namespace

absl::Status FromCall(const grpc::Status& status) {
  absl::Status result = rpc::FromGrpcStatus(status);
  if (absl::IsUnavailable(result) && status.error_details().empty()) {
    result.SetPayload(kUnreachablePayload, absl::Cord());
  }
  return result;
}

bool IsUnreachable(const absl::Status& status) {
  return status.GetPayload(kUnreachablePayload).has_value();
}

std::string Explain(const absl::Status& status) {
  if (status.ok()) return "OK";
  std::string text(status.message());
  if (text.empty()) text = absl::StatusCodeToString(status.code());
  if (IsUnreachable(status)) return text;
  absl::StrAppend(&text, " [", std::string(base::EntryOf(base::ReasonOf(status)).name), "]");
  if (const auto after = base::DetailsOf(status).retry_after; after.has_value()) {
    absl::StrAppend(&text, "; try again in ", absl::FormatDuration(*after));
  }
  return text;
}

}  // namespace ccoe::cli
