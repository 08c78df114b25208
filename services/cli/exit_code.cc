#include "services/cli/exit_code.h"

#include "common/base/error.h"
#include "services/cli/call_status.h"

namespace ccoe::cli {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kCancelled:
      return ExitCode::kInterrupted;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      if (IsUnreachable(status)) return ExitCode::kUnreachable;
      return base::EntryOf(base::ReasonOf(status)).retry == base::Retry::kLater ? ExitCode::kBusy
                                                                                : ExitCode::kFailed;
    default:
      return ExitCode::kFailed;
  }
}

}  // namespace ccoe::cli
