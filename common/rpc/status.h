#pragma once

#include <string>

#include "absl/status/status.h"

namespace google::rpc {
class Status;
}  // namespace google::rpc

namespace grpc {
class ServerContextBase;
class Status;
}  // namespace grpc

namespace ccoe::rpc {

// ErrorInfo.domain of every error of ours.
inline constexpr char kErrorDomain[] = "ccoe";
// Trailer that tells gRPC's own retries how long to wait; negative: not to retry.
inline constexpr char kPushbackKey[] = "grpc-retry-pushback-ms";

// With google.rpc.Status in grpc-status-details-bin: ErrorInfo{reason, "ccoe", metadata}, and
// RetryInfo where the status carries a delay. OK gives OK.
grpc::Status ToGrpcStatus(const absl::Status& status);
// The reverse: code, message, reason and details. A status that a peer's transport made (no
// details) has its code's general reason.
absl::Status FromGrpcStatus(const grpc::Status& status);

// The same for a status inside of a message.
google::rpc::Status ToStatusProto(const absl::Status& status);
absl::Status FromStatusProto(const google::rpc::Status& proto);

// Adds the trailers that go with `status`: grpc-retry-pushback-ms where it carries a delay or must
// not be retried. OK has none.
void AddErrorTrailers(const absl::Status& status, grpc::ServerContextBase& context);

}  // namespace ccoe::rpc
