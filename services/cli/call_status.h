#pragma once

#include <string>

#include "absl/status/status.h"

namespace grpc {
class Status;
}

namespace ccoe::cli {

// The status of a finished call with the server's reason and details (common/base/error.h). One
// that the transport made, because no server answered, is marked as such.
absl::Status FromCall(const grpc::Status& status);

// Whether no server answered.
bool IsUnreachable(const absl::Status& status);

// What people read: the message, the reason, and when to try again.
std::string Explain(const absl::Status& status);

}  // namespace ccoe::cli
