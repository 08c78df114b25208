#include "common/base/error.h"

#include <array>
#include <cstdint>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/check.h"

namespace ccoe::base {
namespace {

constexpr char kReasonUrl[] = "type.ccoe/reason";
constexpr char kRetryUrl[] = "type.ccoe/retry_after_ns";

using absl::StatusCode;

constexpr auto kTable = std::to_array<ErrorEntry>({
    {Reason::kInvalidRequest, "INVALID_REQUEST", StatusCode::kInvalidArgument, Retry::kNo,
     "A field is missing, malformed or out of its range.", "Correct the field that is named."},
    {Reason::kUnsupportedField, "UNSUPPORTED_FIELD", StatusCode::kInvalidArgument, Retry::kNo,
     "The request holds a field or value that this server does not support.",
     "Leave it out, or use a server that lists the capability."},
    {Reason::kPromptTooLong, "PROMPT_TOO_LONG", StatusCode::kInvalidArgument, Retry::kNo,
     "The prompt has more tokens than are allowed; metadata: prompt_tokens, max_prompt_tokens.",
     "Shorten the prompt; CountTokens counts beforehand."},
    {Reason::kNotFound, "NOT_FOUND", StatusCode::kNotFound, Retry::kNo,
     "What the request names does not exist.", "Correct the name."},
    {Reason::kUnknownDomain, "UNKNOWN_DOMAIN", StatusCode::kNotFound, Retry::kNo,
     "No expert serves this domain; metadata: domain.",
     "Choose one of ListExperts, or leave the target unset."},
    {Reason::kUnknownExpert, "UNKNOWN_EXPERT", StatusCode::kNotFound, Retry::kNo,
     "No expert has this name and version; metadata: expert, version.",
     "Choose one of ListExperts."},
    {Reason::kFailedPrecondition, "FAILED_PRECONDITION", StatusCode::kFailedPrecondition,
     Retry::kNewState, "The server is not in the state that the request needs.",
     "Do what the message says first."},
    {Reason::kRouteUnsure, "ROUTE_UNSURE", StatusCode::kFailedPrecondition, Retry::kNo,
     "No domain claims the prompt with enough confidence, and on_unsure is FAIL; metadata: domain, "
     "confidence.",
     "Name a domain, lower min_confidence, or set on_unsure to GENERAL."},
    {Reason::kNoChatTemplate, "NO_CHAT_TEMPLATE", StatusCode::kFailedPrecondition, Retry::kNewState,
     "The model's chat template is not known to the server.",
     "Send text or token ids; the operator can name one with --chat-template."},
    {Reason::kModelMismatch, "MODEL_MISMATCH", StatusCode::kFailedPrecondition, Retry::kNewState,
     "Peers, or a package and its base model, do not belong together.",
     "Give all processes the same model, arithmetic and packages made for it."},
    {Reason::kAlreadyExists, "ALREADY_EXISTS", StatusCode::kAlreadyExists, Retry::kNo,
     "What is to be added is there already.", "Choose another name or version."},
    {Reason::kResourceExhausted, "RESOURCE_EXHAUSTED", StatusCode::kResourceExhausted,
     Retry::kLater, "A limit of the server is reached.", "Try again later, with backoff."},
    {Reason::kQueueFull, "QUEUE_FULL", StatusCode::kResourceExhausted, Retry::kLater,
     "As many requests wait as may wait.",
     "Try again after RetryInfo.retry_delay (also in the trailer grpc-retry-pushback-ms)."},
    {Reason::kQueueTimeout, "QUEUE_TIMEOUT", StatusCode::kResourceExhausted, Retry::kLater,
     "The request waited as long as it may and did not start.",
     "Try again after RetryInfo.retry_delay, or allow a longer max_queue_time."},
    {Reason::kSessionTooLarge, "SESSION_TOO_LARGE", StatusCode::kResourceExhausted, Retry::kNo,
     "Prompt and answer together never fit the memory that the server keeps for sessions.",
     "Ask for fewer max_tokens or a shorter prompt; the operator can enlarge the KV pool."},
    {Reason::kSlowReader, "SLOW_READER", StatusCode::kResourceExhausted, Retry::kLater,
     "The client did not read its stream for longer than the server allows.",
     "Read events as they come."},
    {Reason::kKeyConcurrency, "KEY_CONCURRENCY", StatusCode::kResourceExhausted, Retry::kLater,
     "As many requests of the key are under way as it may have; metadata: key, "
     "max_concurrent_requests.",
     "Try again after RetryInfo.retry_delay, with fewer at a time."},
    {Reason::kKeyTokens, "KEY_TOKENS", StatusCode::kResourceExhausted, Retry::kLater,
     "The key has used its tokens of a minute; metadata: key, tokens_per_minute.",
     "Try again after RetryInfo.retry_delay, when there are tokens again."},
    {Reason::kUnavailable, "UNAVAILABLE", StatusCode::kUnavailable, Retry::kLater,
     "The server cannot answer now.", "Try again later, with backoff."},
    {Reason::kDraining, "DRAINING", StatusCode::kUnavailable, Retry::kLater,
     "The server is shutting down and takes nothing new.",
     "Try again; another replica will answer."},
    {Reason::kExpertUnavailable, "EXPERT_UNAVAILABLE", StatusCode::kUnavailable, Retry::kLater,
     "The expert is known, but none of its replicas is connected; metadata: expert, version.",
     "Try again later; the operator should look at the expert's processes."},
    {Reason::kBackboneUnavailable, "BACKBONE_UNAVAILABLE", StatusCode::kUnavailable, Retry::kLater,
     "The router is not connected to a backbone.",
     "Try again later; the operator should look at the backbone."},
    {Reason::kConnectionLost, "CONNECTION_LOST", StatusCode::kUnavailable, Retry::kLater,
     "A process that computed this request went away, and no other could go on.",
     "Try again; the same seed gives the same answer."},
    {Reason::kUnauthenticated, "UNAUTHENTICATED", StatusCode::kUnauthenticated, Retry::kNo,
     "The caller is not known.", "Send valid credentials."},
    {Reason::kApiKeyMissing, "API_KEY_MISSING", StatusCode::kUnauthenticated, Retry::kNo,
     "The server asks for a key, and the call shows none.",
     "Send the metadata `authorization: Bearer KEY`."},
    {Reason::kApiKeyUnknown, "API_KEY_UNKNOWN", StatusCode::kUnauthenticated, Retry::kNo,
     "The server does not know the key; it may have been removed.", "Ask the operator for a key."},
    {Reason::kDeadlineExceeded, "DEADLINE_EXCEEDED", StatusCode::kDeadlineExceeded, Retry::kLater,
     "The request took longer than its deadline or the server's limit.",
     "Allow more time, or ask for fewer tokens."},
    {Reason::kCancelled, "CANCELLED", StatusCode::kCancelled, Retry::kNo,
     "The client cancelled the request.", "None."},
    {Reason::kUnimplemented, "UNIMPLEMENTED", StatusCode::kUnimplemented, Retry::kNo,
     "The server does not have this method or feature.", "Use what the server supports."},
    {Reason::kPermissionDenied, "PERMISSION_DENIED", StatusCode::kPermissionDenied, Retry::kNo,
     "The caller may not do this.", "Ask the operator for the right."},
    {Reason::kOutOfRange, "OUT_OF_RANGE", StatusCode::kOutOfRange, Retry::kNo,
     "A position lies outside of what exists.", "Correct the position."},
    {Reason::kAborted, "ABORTED", StatusCode::kAborted, Retry::kLater,
     "The request lost against another one.", "Try again."},
    {Reason::kDataLoss, "DATA_LOSS", StatusCode::kDataLoss, Retry::kNo,
     "Data arrived or was read damaged.", "Report it to the operator."},
    {Reason::kInternal, "INTERNAL", StatusCode::kInternal, Retry::kNo, "A fault of the server.",
     "Report it to the operator with the request id."},
});

Reason GeneralReason(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
      return Reason::kInvalidRequest;
    case StatusCode::kOk:
    case StatusCode::kUnknown:
      return Reason::kInternal;
    default:
      break;
  }
  const std::string name = absl::StatusCodeToString(code);
  for (const ErrorEntry& entry : kTable) {
    if (entry.name == name) return entry.reason;
  }
  return Reason::kInternal;
}

}  // namespace

absl::Span<const ErrorEntry> ErrorTable() { return kTable; }

const ErrorEntry& EntryOf(Reason reason) { return kTable[static_cast<size_t>(reason)]; }

std::optional<Reason> ReasonByName(std::string_view name) {
  for (const ErrorEntry& entry : kTable) {
    if (entry.name == name) return entry.reason;
  }
  return std::nullopt;
}

absl::Status MakeError(Reason reason, std::string_view message, const ErrorDetails& details) {
  const ErrorEntry& entry = EntryOf(reason);
  CCOE_CHECK(entry.reason == reason);
  absl::Status status(entry.code, absl::string_view(message.data(), message.size()));
  // name, then key and value of each metadata entry, separated by NUL.
  std::string payload(entry.name);
  for (const auto& [key, value] : details.metadata) {
    for (const std::string* part : {&key, &value}) {
      payload += '\0';
      for (char c : *part) payload += c == '\0' ? ' ' : c;
    }
  }
  status.SetPayload(kReasonUrl, absl::Cord(payload));
  if (details.retry_after.has_value()) {
    status.SetPayload(kRetryUrl,
                      absl::Cord(absl::StrCat(absl::ToInt64Nanoseconds(*details.retry_after))));
  }
  return status;
}

Reason ReasonOf(const absl::Status& status) {
  if (const auto payload = status.GetPayload(kReasonUrl); payload.has_value()) {
    const std::string text(*payload);
    if (const auto reason = ReasonByName(text.substr(0, text.find('\0'))); reason.has_value()) {
      return *reason;
    }
  }
  return GeneralReason(status.code());
}

ErrorDetails DetailsOf(const absl::Status& status) {
  ErrorDetails details;
  if (const auto payload = status.GetPayload(kReasonUrl); payload.has_value()) {
    const std::string text(*payload);
    const std::vector<std::string> parts = absl::StrSplit(text, '\0');
    for (size_t i = 1; i + 1 < parts.size(); i += 2) {
      details.metadata.emplace_back(parts[i], parts[i + 1]);
    }
  }
  if (const auto payload = status.GetPayload(kRetryUrl); payload.has_value()) {
    int64_t ns = 0;
    if (absl::SimpleAtoi(std::string(*payload), &ns)) details.retry_after = absl::Nanoseconds(ns);
  }
  return details;
}

}  // namespace ccoe::base
