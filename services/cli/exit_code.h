#pragma once

#include "absl/status/status.h"

namespace ccoe::cli {

// What a run of `ccoe` says to the shell (docs/cli.md).
enum class ExitCode {
  kOk = 0,
  kFailed = 1,        // the request or the command failed
  kUsage = 2,         // the command line or the configuration is wrong
  kUnreachable = 3,   // no server answers at the address
  kRefused = 4,       // a model or an expert package was refused
  kBusy = 5,          // the server refuses for now: try again later
  kInterrupted = 130  // ended by Ctrl-C
};

// The exit code of a call that ended with `status` (call_status.h).
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace ccoe::cli
