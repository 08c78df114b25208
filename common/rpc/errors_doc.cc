#include "common/rpc/errors_doc.h"

#include "absl/strings/str_cat.h"
#include "common/base/error.h"

namespace ccoe::rpc {
namespace {

const char* RetryText(base::Retry retry) {
  switch (retry) {
    case base::Retry::kNo:
      return "no";
    case base::Retry::kLater:
      return "yes";
    case base::Retry::kNewState:
      return "after a change";
  }
  return "no";
}

}  // namespace

std::string ErrorsMarkdown() {
  std::string text = R"(# Errors

<!-- Generated from common/base/error.cc by ccoe-errors-doc; do not edit. -->

A call that fails ends with a gRPC status. Its trailer `grpc-status-details-bin` holds a
`google.rpc.Status` with a `google.rpc.ErrorInfo` (domain `ccoe`, the reason below, and metadata such
as counts and names) and, where the server knows how long to wait, a `google.rpc.RetryInfo`; the wait
is also in the trailer `grpc-retry-pushback-ms`, which gRPC's own retries obey; it is -1, do not retry,
for every reason whose Retry is not yes. Before a request is admitted no headers are sent, so that a
retry policy in a client's service config applies. The trailer `x-request-id` names the request in the
logs of every process.

Branch on code and reason; messages are for people and may change.

| Code | Reason | Retry | Meaning | Remedy |
|---|---|---|---|---|
)";
  for (const base::ErrorEntry& entry : base::ErrorTable()) {
    absl::StrAppend(&text, "| ", absl::StatusCodeToString(entry.code), " | ",
                    std::string(entry.name), " | ", RetryText(entry.retry), " | ",
                    std::string(entry.meaning), " | ", std::string(entry.remedy), " |\n");
  }
  return text;
}

}  // namespace ccoe::rpc
