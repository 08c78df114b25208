#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace ccoe::base {

// Why something failed, finer than a status code. Clients see the name as ErrorInfo.reason
// (docs/errors.md). Only grows; names never change.
enum class Reason {
  // INVALID_ARGUMENT
  kInvalidRequest,
  kUnsupportedField,
  kPromptTooLong,
  // NOT_FOUND
  kNotFound,
  kUnknownDomain,
  kUnknownExpert,
  // FAILED_PRECONDITION
  kFailedPrecondition,
  kRouteUnsure,
  kNoChatTemplate,
  kModelMismatch,
  // ALREADY_EXISTS
  kAlreadyExists,
  // RESOURCE_EXHAUSTED
  kResourceExhausted,
  kQueueFull,
  kQueueTimeout,
  kSessionTooLarge,
  kSlowReader,
  kKeyConcurrency,
  kKeyTokens,
  // UNAVAILABLE
  kUnavailable,
  kDraining,
  kExpertUnavailable,
  kBackboneUnavailable,
  kConnectionLost,
  // UNAUTHENTICATED
  kUnauthenticated,
  kApiKeyMissing,
  kApiKeyUnknown,
  // others
  kDeadlineExceeded,
  kCancelled,
  kUnimplemented,
  kPermissionDenied,
  kOutOfRange,
  kAborted,
  kDataLoss,
  kInternal,
};

enum class Retry {
  kNo,        // the same request fails again
  kLater,     // after a while; RetryInfo says how long where that is known
  kNewState,  // after what the remedy names has changed
};

struct ErrorEntry {
  Reason reason;
  std::string_view name;  // "QUEUE_FULL"
  absl::StatusCode code;
  Retry retry;
  std::string_view meaning;
  std::string_view remedy;
};

// Every reason, in the order of the enumeration.
absl::Span<const ErrorEntry> ErrorTable();
const ErrorEntry& EntryOf(Reason reason);
std::optional<Reason> ReasonByName(std::string_view name);

// What goes with an error: `metadata` becomes ErrorInfo.metadata, `retry_after` RetryInfo.
struct ErrorDetails {
  std::vector<std::pair<std::string, std::string>> metadata;
  std::optional<absl::Duration> retry_after;
};

// A status with the reason's code that carries the reason and the details as payloads.
absl::Status MakeError(Reason reason, std::string_view message, const ErrorDetails& details = {});

// The reason that a status carries; for one made without MakeError, its code's general reason.
// Requires !status.ok().
Reason ReasonOf(const absl::Status& status);
// The details that a status carries; empty for one made without MakeError.
ErrorDetails DetailsOf(const absl::Status& status);

}  // namespace ccoe::base
