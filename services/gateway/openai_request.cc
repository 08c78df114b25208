#include "services/gateway/openai_request.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/status_macros.h"
#include "common/model/json.h"
#include "common/rpc/proto_time.h"
#include "services/gateway/http_error.h"
#include "services/gateway/request_fields.h"

namespace ccoe::gateway {
namespace {

using model::Json;

constexpr size_t kMaxPrompts = 16;
constexpr int kMaxTopLogprobs = 20;
constexpr int kCompletionTokens = 16;  // OpenAI's default
constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxQueueMs = 24 * 3600 * 1000;

absl::StatusOr<Json> ParseBody(std::string_view body, size_t max_bytes) {
  absl::StatusOr<Json> json = model::ParseJsonObject(body, max_bytes, "the request's body");
  if (!json.ok()) return InvalidParam("", std::string(json.status().message()));
  return json;
}

absl::StatusOr<ModelName> ParseModel(RequestFields& fields) {
  CCOE_ASSIGN_OR_RETURN(const auto text, fields.String("model"));
  if (!text.has_value()) return InvalidParam("model", "is missing: auto lets the gate decide");
  return ParseModelName(*text);
}

absl::StatusOr<StreamOptions> ParseStreaming(RequestFields& fields) {
  StreamOptions streaming;
  CCOE_ASSIGN_OR_RETURN(streaming.stream, fields.BoolOr("stream", false));
  if (const Json* options = fields.Find("stream_options"); options != nullptr) {
    if (!streaming.stream) return InvalidParam("stream_options", "needs stream");
    CCOE_ASSIGN_OR_RETURN(RequestFields inner, RequestFields::Of(*options, "stream_options"));
    CCOE_ASSIGN_OR_RETURN(streaming.include_usage, inner.BoolOr("include_usage", false));
    CCOE_RETURN_IF_ERROR(inner.CheckAllKnown());
  }
  return streaming;
}

absl::Status ParseSeed(RequestFields& fields, v1::SamplingParams* sampling) {
  const Json* seed = fields.Find("seed");
  if (seed == nullptr) return absl::OkStatus();
  if (!seed->is_number_integer()) return InvalidParam("seed", "has to be an integer");
  sampling->set_seed(seed->is_number_unsigned() ? seed->get<uint64_t>()
                                                : static_cast<uint64_t>(seed->get<int64_t>()));
  return absl::OkStatus();
}

// What chat and completions have in common besides model and streaming.
absl::Status ParseSampling(RequestFields& fields, v1::GenerateRequest* request) {
  v1::SamplingParams& sampling = *request->mutable_sampling();
  CCOE_ASSIGN_OR_RETURN(const auto temperature, fields.Number("temperature"));
  if (temperature.has_value()) sampling.set_temperature(static_cast<float>(*temperature));
  CCOE_ASSIGN_OR_RETURN(const auto top_p, fields.Number("top_p"));
  if (top_p.has_value()) sampling.set_top_p(static_cast<float>(*top_p));
  CCOE_ASSIGN_OR_RETURN(const auto presence, fields.Number("presence_penalty"));
  sampling.set_presence_penalty(static_cast<float>(presence.value_or(0)));
  CCOE_ASSIGN_OR_RETURN(const auto frequency, fields.Number("frequency_penalty"));
  sampling.set_frequency_penalty(static_cast<float>(frequency.value_or(0)));
  CCOE_RETURN_IF_ERROR(ParseSeed(fields, &sampling));
  CCOE_ASSIGN_OR_RETURN(std::vector<std::string> stops, fields.Strings("stop"));
  for (std::string& stop : stops) request->mutable_stop()->add_stop_sequences(std::move(stop));
  return absl::OkStatus();
}

// Fields of OpenAI's that may only say what holds anyway, and those that have no effect on the
// answer.
absl::Status CheckNeutral(RequestFields& fields) {
  CCOE_RETURN_IF_ERROR(fields.Only("n", 1));
  CCOE_RETURN_IF_ERROR(fields.Only("logit_bias", Json::object()));
  CCOE_RETURN_IF_ERROR(fields.String("user").status());
  if (const Json* metadata = fields.Find("metadata");
      metadata != nullptr && !metadata->is_object()) {
    return InvalidParam("metadata", "has to be an object");
  }
  return absl::OkStatus();
}

absl::Status ParsePlanStep(const Json& value, const std::string& path, v1::PlanStep* step) {
  CCOE_ASSIGN_OR_RETURN(RequestFields fields, RequestFields::Of(value, path));
  CCOE_ASSIGN_OR_RETURN(auto domain, fields.String("domain"));
  if (domain.has_value() && *domain != "auto") step->set_domain(*std::move(domain));
  CCOE_ASSIGN_OR_RETURN(auto instruction, fields.String("instruction"));
  if (!instruction.has_value()) return InvalidParam(fields.PathOf("instruction"), "is missing");
  step->set_instruction(*std::move(instruction));
  CCOE_ASSIGN_OR_RETURN(const auto max_tokens, fields.Integer("max_tokens", 1, kMaxInt));
  if (max_tokens.has_value()) step->set_max_tokens(static_cast<int32_t>(*max_tokens));
  return fields.CheckAllKnown();
}

absl::Status ParsePlan(const Json& value, v1::Plan* plan) {
  if (value == "auto") {
    plan->set_automatic(true);
    return absl::OkStatus();
  }
  if (!value.is_array() || value.empty()) {
    return InvalidParam("ccoe.plan", "has to be \"auto\" or a list of steps");
  }
  for (size_t i = 0; i < value.size(); ++i) {
    CCOE_RETURN_IF_ERROR(
        ParsePlanStep(value[i], absl::StrCat("ccoe.plan[", i, "]"), plan->add_steps()));
  }
  return absl::OkStatus();
}

absl::Status ParseRouting(RequestFields& fields, v1::GenerateRequest* request) {
  CCOE_ASSIGN_OR_RETURN(const auto confidence, fields.Number("min_confidence"));
  if (confidence.has_value()) request->mutable_routing()->set_min_confidence(*confidence);
  CCOE_ASSIGN_OR_RETURN(const auto on_unsure, fields.String("on_unsure"));
  if (!on_unsure.has_value()) return absl::OkStatus();
  if (*on_unsure != "general" && *on_unsure != "fail") {
    return InvalidParam(fields.PathOf("on_unsure"), "has to be \"general\" or \"fail\"");
  }
  request->mutable_routing()->set_on_unsure(*on_unsure == "fail"
                                                ? v1::RoutingOptions::ON_UNSURE_FAIL
                                                : v1::RoutingOptions::ON_UNSURE_GENERAL);
  return absl::OkStatus();
}

// The object `ccoe`: what OpenAI's API has no field for.
absl::Status ParseExtension(RequestFields& outer, v1::GenerateRequest* request) {
  const Json* value = outer.Find("ccoe");
  if (value == nullptr) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(RequestFields fields, RequestFields::Of(*value, "ccoe"));
  if (const Json* plan = fields.Find("plan"); plan != nullptr) {
    CCOE_RETURN_IF_ERROR(ParsePlan(*plan, request->mutable_plan()));
  }
  CCOE_RETURN_IF_ERROR(ParseRouting(fields, request));
  v1::SamplingParams& sampling = *request->mutable_sampling();
  CCOE_ASSIGN_OR_RETURN(const auto top_k, fields.Integer("top_k", 0, kMaxInt));
  sampling.set_top_k(static_cast<int32_t>(top_k.value_or(0)));
  CCOE_ASSIGN_OR_RETURN(const auto min_p, fields.Number("min_p"));
  sampling.set_min_p(static_cast<float>(min_p.value_or(0)));
  CCOE_ASSIGN_OR_RETURN(const auto repetition, fields.Number("repetition_penalty"));
  if (repetition.has_value()) {
    sampling.set_repetition_penalty(static_cast<float>(*repetition));
  }
  CCOE_ASSIGN_OR_RETURN(const auto queue_ms, fields.Integer("max_queue_time_ms", 1, kMaxQueueMs));
  if (queue_ms.has_value()) {
    *request->mutable_max_queue_time() = rpc::ToProto(absl::Milliseconds(*queue_ms));
  }
  return fields.CheckAllKnown();
}

absl::StatusOr<v1::Role> ParseRole(RequestFields& fields) {
  CCOE_ASSIGN_OR_RETURN(const auto role, fields.String("role"));
  if (role == "system" || role == "developer") return v1::ROLE_SYSTEM;
  if (role == "user") return v1::ROLE_USER;
  if (role == "assistant") return v1::ROLE_ASSISTANT;
  const std::string path = fields.PathOf("role");
  if (role == "tool" || role == "function")
    return UnsupportedParam(path, "tools are not supported");
  return InvalidParam(path, "has to be system, developer, user or assistant");
}

// A string, or a list of text parts, which are put together.
absl::StatusOr<std::string> ParseContent(const Json* value, const std::string& path) {
  if (value == nullptr) return InvalidParam(path, "is missing");
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) return InvalidParam(path, "has to be a string or a list of text parts");
  std::string text;
  for (size_t i = 0; i < value->size(); ++i) {
    const std::string part_path = absl::StrCat(path, "[", i, "]");
    CCOE_ASSIGN_OR_RETURN(RequestFields part, RequestFields::Of((*value)[i], part_path));
    CCOE_ASSIGN_OR_RETURN(const auto type, part.String("type"));
    if (type != "text") {
      return UnsupportedParam(part.PathOf("type"), "is not supported; \"text\" is");
    }
    CCOE_ASSIGN_OR_RETURN(const auto piece, part.String("text"));
    if (!piece.has_value()) return InvalidParam(part.PathOf("text"), "is missing");
    CCOE_RETURN_IF_ERROR(part.CheckAllKnown());
    text += *piece;
  }
  return text;
}

absl::Status ParseMessages(const Json* messages, v1::Chat* chat) {
  if (messages == nullptr || !messages->is_array()) {
    return InvalidParam("messages", "has to be a list of messages");
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string path = absl::StrCat("messages[", i, "]");
    CCOE_ASSIGN_OR_RETURN(RequestFields fields, RequestFields::Of((*messages)[i], path));
    v1::ChatMessage& message = *chat->add_messages();
    CCOE_ASSIGN_OR_RETURN(const v1::Role role, ParseRole(fields));
    message.set_role(role);
    CCOE_ASSIGN_OR_RETURN(std::string content,
                          ParseContent(fields.Find("content"), fields.PathOf("content")));
    message.set_content(std::move(content));
    CCOE_RETURN_IF_ERROR(fields.Only("refusal", nullptr));
    CCOE_RETURN_IF_ERROR(fields.Only("tool_calls", Json::array()));
    CCOE_RETURN_IF_ERROR(fields.CheckAllKnown());
  }
  return absl::OkStatus();
}

absl::Status ParseChatLogprobs(RequestFields& fields, v1::GenerateRequest* request) {
  CCOE_ASSIGN_OR_RETURN(const bool wanted, fields.BoolOr("logprobs", false));
  CCOE_ASSIGN_OR_RETURN(const auto top, fields.Integer("top_logprobs", 0, kMaxTopLogprobs));
  if (top.has_value() && !wanted) return InvalidParam("top_logprobs", "needs logprobs");
  if (wanted) request->mutable_output()->set_top_logprobs(static_cast<int32_t>(top.value_or(0)));
  return absl::OkStatus();
}

absl::Status ParseChatLength(RequestFields& fields, v1::GenerateRequest* request) {
  CCOE_ASSIGN_OR_RETURN(auto tokens, fields.Integer("max_completion_tokens", 1, kMaxInt));
  CCOE_ASSIGN_OR_RETURN(const auto older, fields.Integer("max_tokens", 1, kMaxInt));
  if (tokens.has_value() && older.has_value()) {
    return InvalidParam("max_tokens", "is the older name of max_completion_tokens: give one");
  }
  if (older.has_value()) tokens = older;
  if (tokens.has_value()) request->mutable_stop()->set_max_tokens(static_cast<int32_t>(*tokens));
  return absl::OkStatus();
}

bool IsTokenList(const Json& value) {
  return value.is_array() && !value.empty() && value[0].is_number();
}

absl::StatusOr<Prompt> ParsePrompt(const Json& value, const std::string& path) {
  Prompt prompt;
  if (value.is_string()) {
    prompt.text = value.get<std::string>();
    if (prompt.text.empty()) return InvalidParam(path, "is empty");
    return prompt;
  }
  if (!IsTokenList(value)) {
    return InvalidParam(path, "has to be a string, a list of token ids, or a list of those");
  }
  prompt.token_ids.reserve(value.size());
  for (const Json& id : value) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxInt)) {
      return InvalidParam(path, "holds something that is no token id");
    }
    prompt.token_ids.push_back(id.get<int32_t>());
  }
  return prompt;
}

absl::StatusOr<std::vector<Prompt>> ParsePrompts(const Json* value) {
  if (value == nullptr) return InvalidParam("prompt", "is missing");
  std::vector<Prompt> prompts;
  if (!value->is_array() || IsTokenList(*value)) {
    CCOE_ASSIGN_OR_RETURN(Prompt prompt, ParsePrompt(*value, "prompt"));
    prompts.push_back(std::move(prompt));
    return prompts;
  }
  if (value->empty() || value->size() > kMaxPrompts) {
    return InvalidParam("prompt", absl::StrCat("has to hold 1 to ", kMaxPrompts, " prompts"));
  }
  prompts.reserve(value->size());
  for (size_t i = 0; i < value->size(); ++i) {
    CCOE_ASSIGN_OR_RETURN(Prompt prompt, ParsePrompt((*value)[i], absl::StrCat("prompt[", i, "]")));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace

absl::StatusOr<ModelName> ParseModelName(std::string_view text) {
  ModelName name;
  if (text == "auto") return name;
  const size_t at = text.find('@');
  name.domain = std::string(text.substr(0, at));
  if (at != std::string_view::npos) name.version = std::string(text.substr(at + 1));
  if (name.domain.empty() || (at != std::string_view::npos && name.version.empty())) {
    return InvalidParam("model", "has to be auto, a domain, or DOMAIN@VERSION");
  }
  return name;
}

absl::StatusOr<ChatRequest> ParseChatRequest(std::string_view body, size_t max_bytes) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseBody(body, max_bytes));
  RequestFields fields(json, "");
  ChatRequest chat;
  CCOE_ASSIGN_OR_RETURN(chat.model, ParseModel(fields));
  CCOE_ASSIGN_OR_RETURN(chat.streaming, ParseStreaming(fields));
  CCOE_RETURN_IF_ERROR(CheckNeutral(fields));
  CCOE_RETURN_IF_ERROR(fields.Only("tools", Json::array()));
  CCOE_RETURN_IF_ERROR(fields.Only("tool_choice", "none"));
  CCOE_RETURN_IF_ERROR(fields.Only("functions", Json::array()));
  CCOE_RETURN_IF_ERROR(fields.Only("function_call", "none"));
  CCOE_RETURN_IF_ERROR(fields.Only("response_format", {{"type", "text"}}));
  CCOE_RETURN_IF_ERROR(fields.Only("modalities", Json::array({"text"})));
  CCOE_RETURN_IF_ERROR(fields.Only("store", false));
  CCOE_RETURN_IF_ERROR(ParseMessages(fields.Find("messages"), chat.generate.mutable_chat()));
  CCOE_RETURN_IF_ERROR(ParseSampling(fields, &chat.generate));
  CCOE_RETURN_IF_ERROR(ParseChatLength(fields, &chat.generate));
  CCOE_RETURN_IF_ERROR(ParseChatLogprobs(fields, &chat.generate));
  CCOE_RETURN_IF_ERROR(ParseExtension(fields, &chat.generate));
  CCOE_RETURN_IF_ERROR(fields.CheckAllKnown());
  return chat;
}

absl::StatusOr<CompletionRequest> ParseCompletionRequest(std::string_view body, size_t max_bytes) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseBody(body, max_bytes));
  RequestFields fields(json, "");
  CompletionRequest completion;
  CCOE_ASSIGN_OR_RETURN(completion.model, ParseModel(fields));
  CCOE_ASSIGN_OR_RETURN(completion.streaming, ParseStreaming(fields));
  CCOE_RETURN_IF_ERROR(CheckNeutral(fields));
  CCOE_RETURN_IF_ERROR(fields.Only("best_of", 1));
  CCOE_RETURN_IF_ERROR(fields.Only("suffix", ""));
  CCOE_ASSIGN_OR_RETURN(completion.prompts, ParsePrompts(fields.Find("prompt")));
  if (completion.streaming.stream && completion.prompts.size() > 1) {
    return UnsupportedParam("prompt", "a stream answers one prompt");
  }
  CCOE_ASSIGN_OR_RETURN(completion.echo, fields.BoolOr("echo", false));
  if (completion.echo && completion.streaming.stream) {
    return UnsupportedParam("echo", "is not supported together with stream");
  }
  v1::GenerateRequest& generate = completion.generate;
  CCOE_RETURN_IF_ERROR(ParseSampling(fields, &generate));
  CCOE_ASSIGN_OR_RETURN(const auto tokens,
                        fields.Integer("max_tokens", completion.echo ? 0 : 1, kMaxInt));
  generate.mutable_stop()->set_max_tokens(static_cast<int32_t>(tokens.value_or(kCompletionTokens)));
  CCOE_ASSIGN_OR_RETURN(const auto top, fields.Integer("logprobs", 0, kMaxTopLogprobs));
  if (top.has_value()) generate.mutable_output()->set_top_logprobs(static_cast<int32_t>(*top));
  CCOE_RETURN_IF_ERROR(ParseExtension(fields, &generate));
  if (generate.has_plan()) return UnsupportedParam("ccoe.plan", "is for chat completions alone");
  CCOE_RETURN_IF_ERROR(fields.CheckAllKnown());
  return completion;
}

absl::StatusOr<v1::RouteRequest> ParseRouteRequest(std::string_view body, size_t max_bytes) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseBody(body, max_bytes));
  RequestFields fields(json, "");
  v1::RouteRequest request;
  request.set_explain(true);
  const Json* messages = fields.Find("messages");
  CCOE_ASSIGN_OR_RETURN(auto prompt, fields.String("prompt"));
  if ((messages == nullptr) != prompt.has_value()) {
    return InvalidParam("messages", "give messages, or a prompt");
  }
  if (prompt.has_value()) {
    request.mutable_text()->set_text(*std::move(prompt));
  } else {
    CCOE_RETURN_IF_ERROR(ParseMessages(messages, request.mutable_chat()));
  }
  CCOE_RETURN_IF_ERROR(fields.CheckAllKnown());
  return request;
}

}  // namespace ccoe::gateway
