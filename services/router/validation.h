#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ccoe/v1/generation_service.pb.h"
#include "common/runtime/prompt.h"
#include "common/runtime/session.h"

namespace ccoe::router {

// What the server grants to one request.
struct Limits {
  absl::Duration max_queue_time = absl::Seconds(30);
  absl::Duration max_request_time = absl::Minutes(10);
  int max_prompt_tokens = 0;  // 0: what the model's context holds
  int max_output_tokens = 4096;
  int max_message_bytes = 4 << 20;  // for GetServerInfo; the server refuses larger ones itself
  int max_active_requests = 512;
  int max_buffered_events = 64;
  absl::Duration slow_reader_timeout = absl::Seconds(30);
};

// Who is to answer: nobody named, a domain, or an expert.
using Target = std::variant<std::monostate, std::string, runtime::ExpertKey>;

struct RoutingPolicy {
  enum class OnUnsure { kGeneral, kFail };
  double min_confidence = 0;
  OnUnsure on_unsure = OnUnsure::kGeneral;
  uint32_t draw = 0;  // the request's (DrawOf), where several versions share a domain
};

// One step of a plan as the client gave it.
struct PlanStep {
  Target target;
  std::string instruction;
  int max_tokens = 0;
};

struct ParsedPlan {
  std::vector<PlanStep> steps;  // empty: the last user message is split
  int max_total_tokens = 0;
};

struct ParsedInput {
  runtime::PromptInput prompt;
  // What the gate looks at: the text, or a conversation's last user message. nullopt for token ids.
  std::optional<std::string> gate_text;
};

// A request whose every field has been checked.
struct ParsedRequest {
  ParsedInput input;
  std::optional<runtime::PromptInput> continuation;  // to score
  Target target;
  std::optional<ParsedPlan> plan;           // of a conversation, without a target
  std::vector<runtime::ExpertKey> experts;  // that are all to answer, without a target; or none
  RoutingPolicy routing;
  bool explain_route = false;
  runtime::SamplingParams sampling;
  runtime::StopConditions stop;
  bool wants_token_ids = false;
  absl::Duration max_queue_time;  // within the server's limit
};

// All fail with INVALID_ARGUMENT and name the field and its range. A field that this build does not
// know, wherever it stands, is UNSUPPORTED_FIELD. `fresh_seed` is used where the request has none.
absl::StatusOr<ParsedRequest> ParseGenerate(const v1::GenerateRequest& request,
                                            const Limits& limits, uint64_t fresh_seed);
absl::StatusOr<ParsedRequest> ParseScore(const v1::ScoreRequest& request, const Limits& limits);
absl::StatusOr<ParsedRequest> ParseRoute(const v1::RouteRequest& request);
absl::StatusOr<ParsedInput> ParseTokenize(const v1::TokenizeRequest& request);
absl::StatusOr<ParsedInput> ParseCountTokens(const v1::CountTokensRequest& request);

// INVALID_ARGUMENT (INVALID_REQUEST) that names the field; the message is `field` and `what`.
absl::Status InvalidField(const char* field, absl::string_view what);

// INVALID_ARGUMENT (UNSUPPORTED_FIELD) when a message or one within it holds fields that this build
// does not know.
absl::Status CheckNoUnknownFields(const google::protobuf::Message& message);

}  // namespace ccoe::router
