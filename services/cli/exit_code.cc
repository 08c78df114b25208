#include "services/cli/exit_code.h"

#include "services/cli/call_status.h"

namespace ccoe::cli {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kCancelled:
      return ExitCode::kInterrupted;
    case absl::StatusCode::kResourceExhausted:
      return ExitCode::kBusy;
    case absl::StatusCode::kUnavailable:
      return IsUnreachable(status) ? ExitCode::kUnreachable : ExitCode::kBusy;
    default:
      return ExitCode::kFailed;
  }
}

}  // namespace ccoe::cli
