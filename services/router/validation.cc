#include "services/router/validation.h"

#include <google/protobuf/reflection.h>
#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/proto_time.h"
#include "services/router/plan.h"

namespace ccoe::router {
namespace {

constexpr int kMaxStopSequences = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxTopLogprobs = 20;
constexpr int kMaxExperts = 4;  // that answer one request

// Variadic, so that a message is put together only where there is something wrong.
template <typename... Parts>
absl::Status Invalid(const char* field, const Parts&... parts) {
  return InvalidField(field, absl::StrCat(parts...));
}

// Written so that NaN is out of every range.
absl::Status CheckClosed(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Invalid(field, " is ", value, "; its range is [", low, ", ", high, "]");
}
absl::Status CheckOpenBelow(const char* field, double value, double low, double high) {
  if (value > low && value <= high) return absl::OkStatus();
  return Invalid(field, " is ", value, "; its range is (", low, ", ", high, "]");
}
absl::Status CheckOpenAbove(const char* field, double value, double low, double high) {
  if (value >= low && value < high) return absl::OkStatus();
  return Invalid(field, " is ", value, "; its range is [", low, ", ", high, ")");
}

absl::StatusOr<std::string> RoleName(v1::Role role) {
  switch (role) {
    case v1::ROLE_SYSTEM:
      return std::string("system");
    case v1::ROLE_USER:
      return std::string("user");
    case v1::ROLE_ASSISTANT:
      return std::string("assistant");
    default:
      return Invalid("chat.messages.role", " must be SYSTEM, USER or ASSISTANT");
  }
}

// Whose the last message of a conversation has to be.
enum class LastTurn { kUsers, kAnyones };

absl::StatusOr<ParsedInput> ParseChat(const v1::Chat& chat, LastTurn last_turn) {
  if (chat.messages().empty()) return Invalid("chat.messages", " is empty");
  std::vector<model::Message> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    CCOE_ASSIGN_OR_RETURN(std::string role, RoleName(message.role()));
    if (message.content().empty()) return Invalid("chat.messages.content", " is empty");
    if (message.role() == v1::ROLE_SYSTEM && !messages.empty()) {
      return Invalid("chat.messages.role", ": SYSTEM is for the first message only");
    }
    messages.push_back({std::move(role), message.content()});
  }
  if (last_turn == LastTurn::kUsers && chat.messages().rbegin()->role() != v1::ROLE_USER) {
    return Invalid("chat.messages", ": the last message must be the user's");
  }
  std::string last = messages.back().content;
  return ParsedInput{std::move(messages), std::move(last)};
}

std::vector<int32_t> Ids(const v1::TokenIds& ids) { return {ids.ids().begin(), ids.ids().end()}; }

// For every message with the oneof `input` of Chat, Text and TokenIds.
template <typename Request>
absl::StatusOr<ParsedInput> ParseInput(const Request& request,
                                       LastTurn last_turn = LastTurn::kUsers) {
  switch (request.input_case()) {
    case Request::kChat:
      return ParseChat(request.chat(), last_turn);
    case Request::kText:
      if (request.text().text().empty()) return Invalid("text.text", " is empty");
      return ParsedInput{request.text().text(), request.text().text()};
    case Request::kTokenIds:
      if (request.token_ids().ids().empty()) return Invalid("token_ids.ids", " is empty");
      return ParsedInput{Ids(request.token_ids()), std::nullopt};
    default:
      return Invalid("input", " is missing: set chat, text or token_ids");
  }
}

template <typename Request>
absl::StatusOr<Target> ParseTarget(const Request& request) {
  switch (request.target_case()) {
    case Request::kDomain:
      if (request.domain().empty()) {
        return Invalid("domain", " is empty: leave it unset to let the gate decide");
      }
      return Target(request.domain());
    case Request::kExpert:
      if (request.expert().name().empty()) return Invalid("expert.name", " is empty");
      return Target(runtime::ExpertKey{request.expert().name(), request.expert().version()});
    default:
      return Target();
  }
}

absl::StatusOr<RoutingPolicy> ParseRouting(const v1::RoutingOptions& options) {
  RoutingPolicy policy;
  CCOE_RETURN_IF_ERROR(CheckClosed("routing.min_confidence", options.min_confidence(), 0, 1));
  policy.min_confidence = options.min_confidence();
  switch (options.on_unsure()) {
    case v1::RoutingOptions::ON_UNSURE_UNSPECIFIED:
    case v1::RoutingOptions::ON_UNSURE_GENERAL:
      break;
    case v1::RoutingOptions::ON_UNSURE_FAIL:
      policy.on_unsure = RoutingPolicy::OnUnsure::kFail;
      break;
    default:
      return Invalid("routing.on_unsure", " must be GENERAL or FAIL");
  }
  return policy;
}

absl::StatusOr<runtime::SamplingParams> ParseSampling(const v1::SamplingParams& params,
                                                      uint64_t fresh_seed) {
  runtime::SamplingParams sampling;
  sampling.temperature = params.has_temperature() ? params.temperature() : 0.7F;
  sampling.top_k = params.top_k();
  sampling.top_p = params.has_top_p() ? params.top_p() : 0.95F;
  sampling.min_p = params.min_p();
  sampling.repetition_penalty = params.has_repetition_penalty() ? params.repetition_penalty() : 1.F;
  sampling.presence_penalty = params.presence_penalty();
  sampling.frequency_penalty = params.frequency_penalty();
  sampling.seed = params.has_seed() ? params.seed() : fresh_seed;
  CCOE_RETURN_IF_ERROR(CheckClosed("sampling.temperature", sampling.temperature, 0, 2));
  CCOE_RETURN_IF_ERROR(CheckClosed("sampling.top_k", sampling.top_k, 0, 2147483647));
  CCOE_RETURN_IF_ERROR(CheckOpenBelow("sampling.top_p", sampling.top_p, 0, 1));
  CCOE_RETURN_IF_ERROR(CheckOpenAbove("sampling.min_p", sampling.min_p, 0, 1));
  CCOE_RETURN_IF_ERROR(
      CheckOpenBelow("sampling.repetition_penalty", sampling.repetition_penalty, 0, 10));
  CCOE_RETURN_IF_ERROR(CheckClosed("sampling.presence_penalty", sampling.presence_penalty, -2, 2));
  CCOE_RETURN_IF_ERROR(
      CheckClosed("sampling.frequency_penalty", sampling.frequency_penalty, -2, 2));
  return sampling;
}

absl::StatusOr<runtime::StopConditions> ParseStop(const v1::StopConditions& conditions,
                                                  const Limits& limits) {
  runtime::StopConditions stop;
  stop.max_tokens = conditions.has_max_tokens() ? conditions.max_tokens()
                                                : std::min(256, limits.max_output_tokens);
  CCOE_RETURN_IF_ERROR(
      CheckClosed("stop.max_tokens", stop.max_tokens, 0, limits.max_output_tokens));
  if (conditions.stop_sequences_size() > kMaxStopSequences) {
    return Invalid("stop.stop_sequences", " has ", conditions.stop_sequences_size(),
                   " entries, more than ", kMaxStopSequences);
  }
  for (const std::string& text : conditions.stop_sequences()) {
    if (text.empty() || text.size() > kMaxStopBytes) {
      return Invalid("stop.stop_sequences", ": an entry has ", text.size(), " bytes, not 1 to ",
                     kMaxStopBytes);
    }
    stop.stop_sequences.push_back(text);
  }
  stop.ignore_end_of_generation = conditions.ignore_end_of_generation();
  return stop;
}

template <typename Request>
absl::StatusOr<absl::Duration> ParseQueueTime(const Request& request, const Limits& limits) {
  if (!request.has_max_queue_time()) return limits.max_queue_time;
  const google::protobuf::Duration& proto = request.max_queue_time();
  const absl::Duration value = rpc::FromProto(proto);
  if (value <= absl::ZeroDuration() || proto.seconds() < 0 || proto.nanos() < 0 ||
      proto.nanos() > 999'999'999) {
    return Invalid("max_queue_time", " must be a duration longer than 0s");
  }
  return std::min(value, limits.max_queue_time);
}

// Target, routing and queue time, which Generate and Score have in common.
template <typename Request>
absl::StatusOr<ParsedRequest> ParseCommon(const Request& request, const Limits& limits) {
  ParsedRequest parsed;
  CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  CCOE_ASSIGN_OR_RETURN(parsed.target, ParseTarget(request));
  if (request.has_routing() && !std::holds_alternative<std::monostate>(parsed.target)) {
    return Invalid("routing", " is for requests without a target: leave one of them out");
  }
  CCOE_ASSIGN_OR_RETURN(parsed.routing, ParseRouting(request.routing()));
  CCOE_ASSIGN_OR_RETURN(parsed.max_queue_time, ParseQueueTime(request, limits));
  return parsed;
}

absl::StatusOr<PlanStep> ParseStep(const v1::PlanStep& step, int max_tokens, const Limits& limits) {
  PlanStep parsed;
  CCOE_ASSIGN_OR_RETURN(parsed.target, ParseTarget(step));
  if (step.instruction().empty()) return Invalid("plan.steps.instruction", " is empty");
  parsed.instruction = step.instruction();
  parsed.max_tokens = step.has_max_tokens() ? step.max_tokens() : max_tokens;
  CCOE_RETURN_IF_ERROR(
      CheckClosed("plan.steps.max_tokens", parsed.max_tokens, 1, limits.max_output_tokens));
  return parsed;
}

// `parsed` has the request's input, target and stop conditions.
absl::StatusOr<ParsedPlan> ParsePlan(const v1::GenerateRequest& request,
                                     const ParsedRequest& parsed, const Limits& limits) {
  const v1::Plan& plan = request.plan();
  if (plan.automatic() != plan.steps().empty()) {
    return Invalid("plan", ": set either `automatic` or `steps`");
  }
  if (plan.steps_size() > kMaxPlanSteps) {
    return Invalid("plan.steps", " has ", plan.steps_size(), " entries, more than ", kMaxPlanSteps);
  }
  if (!std::holds_alternative<std::monostate>(parsed.target)) {
    return Invalid("plan", " is for requests without a target: its steps have their own");
  }
  if (!std::holds_alternative<std::vector<model::Message>>(parsed.input.prompt)) {
    return Invalid("plan", " needs a chat: its steps are turns of a conversation");
  }
  if (plan.automatic() && parsed.stop.max_tokens == 0) {
    return Invalid("plan", " needs stop.max_tokens to be at least 1");
  }
  ParsedPlan result;
  for (const v1::PlanStep& step : plan.steps()) {
    CCOE_ASSIGN_OR_RETURN(result.steps.emplace_back(),
                          ParseStep(step, parsed.stop.max_tokens, limits));
  }
  result.max_total_tokens =
      plan.has_max_total_tokens() ? plan.max_total_tokens() : limits.max_output_tokens;
  CCOE_RETURN_IF_ERROR(CheckClosed("plan.max_total_tokens", result.max_total_tokens,
                                   std::max(1, plan.steps_size()), limits.max_output_tokens));
  return result;
}

absl::StatusOr<std::vector<runtime::ExpertKey>> ParseExperts(const v1::GenerateRequest& request,
                                                             const ParsedRequest& parsed) {
  std::vector<runtime::ExpertKey> experts;
  if (request.experts().empty() && request.select() == v1::SELECT_UNSPECIFIED) return experts;
  if (request.select() != v1::SELECT_BEST) return Invalid("select", " must be BEST");
  if (request.experts_size() < 2 || request.experts_size() > kMaxExperts) {
    return Invalid("experts", " has ", request.experts_size(), " entries, not 2 to ", kMaxExperts);
  }
  if (parsed.plan.has_value() || !std::holds_alternative<std::monostate>(parsed.target) ||
      request.has_routing()) {
    return Invalid("experts", " is for requests without a target, a plan and routing");
  }
  if (parsed.stop.max_tokens == 0) return Invalid("experts", " needs stop.max_tokens above 0");
  for (const v1::ExpertRef& expert : request.experts()) {
    if (expert.name().empty()) return Invalid("experts.name", " is empty");
    experts.push_back({expert.name(), expert.version()});
  }
  return experts;
}

}  // namespace

absl::Status InvalidField(const char* field, absl::string_view what) {
  return base::MakeError(base::Reason::kInvalidRequest, absl::StrCat(field, what),
                         {.metadata = {{"field", field}}, .retry_after = {}});
}

absl::Status CheckNoUnknownFields(const google::protobuf::Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const google::protobuf::UnknownFieldSet& unknown = reflection.GetUnknownFields(message);
  if (!unknown.empty()) {
    return base::MakeError(
        base::Reason::kUnsupportedField,
        absl::StrCat(message.GetDescriptor()->name(), " holds field number ",
                     unknown.field(0).number(), ", which this server does not support"),
        {.metadata = {{"field", absl::StrCat(message.GetDescriptor()->full_name(), ".",
                                             unknown.field(0).number())}},
         .retry_after = {}});
  }
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(reflection.GetMessage(message, field)));
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(reflection.GetRepeatedMessage(message, field, i)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ParsedRequest> ParseGenerate(const v1::GenerateRequest& request,
                                            const Limits& limits, uint64_t fresh_seed) {
  CCOE_ASSIGN_OR_RETURN(ParsedRequest parsed, ParseCommon(request, limits));
  if (request.plan().steps().empty()) {
    CCOE_ASSIGN_OR_RETURN(parsed.input, ParseInput(request));
  } else if (request.input_case() != v1::GenerateRequest::INPUT_NOT_SET) {
    CCOE_ASSIGN_OR_RETURN(parsed.input, ParseInput(request, LastTurn::kAnyones));
  }
  CCOE_ASSIGN_OR_RETURN(parsed.sampling, ParseSampling(request.sampling(), fresh_seed));
  CCOE_ASSIGN_OR_RETURN(parsed.stop, ParseStop(request.stop(), limits));
  if (request.output().has_top_logprobs()) {
    CCOE_RETURN_IF_ERROR(
        CheckClosed("output.top_logprobs", request.output().top_logprobs(), 0, kMaxTopLogprobs));
    parsed.sampling.top_logprobs = request.output().top_logprobs();
  }
  parsed.wants_token_ids = request.output().token_ids();
  if (request.has_plan()) {
    CCOE_ASSIGN_OR_RETURN(parsed.plan, ParsePlan(request, parsed, limits));
    parsed.stop.max_tokens = std::min(parsed.stop.max_tokens, parsed.plan->max_total_tokens);
  }
  CCOE_ASSIGN_OR_RETURN(parsed.experts, ParseExperts(request, parsed));
  return parsed;
}

absl::StatusOr<ParsedRequest> ParseScore(const v1::ScoreRequest& request, const Limits& limits) {
  CCOE_ASSIGN_OR_RETURN(ParsedRequest parsed, ParseCommon(request, limits));
  CCOE_ASSIGN_OR_RETURN(parsed.input, ParseInput(request));
  switch (request.continuation_case()) {
    case v1::ScoreRequest::kContinuationText:
      if (request.continuation_text().empty()) return Invalid("continuation_text", " is empty");
      parsed.continuation = request.continuation_text();
      break;
    case v1::ScoreRequest::kContinuationIds:
      if (request.continuation_ids().ids().empty()) {
        return Invalid("continuation_ids.ids", " is empty");
      }
      parsed.continuation = Ids(request.continuation_ids());
      break;
    default:
      return Invalid("continuation", " is missing: set continuation_text or continuation_ids");
  }
  CCOE_RETURN_IF_ERROR(CheckClosed("top_logprobs", request.top_logprobs(), 0, kMaxTopLogprobs));
  parsed.sampling.top_logprobs = request.top_logprobs();
  parsed.stop.max_tokens = 0;
  return parsed;
}

absl::StatusOr<ParsedRequest> ParseRoute(const v1::RouteRequest& request) {
  ParsedRequest parsed;
  CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  CCOE_ASSIGN_OR_RETURN(parsed.input, ParseInput(request));
  CCOE_ASSIGN_OR_RETURN(parsed.routing, ParseRouting(request.routing()));
  parsed.explain_route = request.explain();
  return parsed;
}

absl::StatusOr<ParsedInput> ParseTokenize(const v1::TokenizeRequest& request) {
  CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  return ParseInput(request);
}

absl::StatusOr<ParsedInput> ParseCountTokens(const v1::CountTokensRequest& request) {
  CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  return ParseInput(request);
}

}  // namespace ccoe::router
