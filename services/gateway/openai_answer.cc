#include "services/gateway/openai_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/utf8.h"
#include "common/rpc/answer_json.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

using Json = nlohmann::ordered_json;
using Logprobs = google::protobuf::RepeatedPtrField<v1::TokenLogprob>;

constexpr char kStreamEnd[] = "data: [DONE]\n\n";

bool IsUtf8(const std::string& bytes) { return model::ValidUtf8Prefix(bytes) == bytes.size(); }

// A token as a text: its bytes, with what is no character replaced.
std::string TokenText(const v1::TokenLogprob& token) {
  std::string text;
  std::string_view rest = token.token();
  while (!rest.empty()) {
    const model::Utf8Unit unit = model::NextUtf8Unit(rest);
    text += unit.kind == model::Utf8Unit::Kind::kCharacter ? rest.substr(0, unit.bytes)
                                                           : model::kReplacementCharacter;
    rest.remove_prefix(unit.bytes);
  }
  return text;
}

// A token as a key: its text, or OpenAI's "bytes:\xe2\x80" where it is no text; a control token has
// neither.
std::string TokenKey(const v1::TokenLogprob& token) {
  if (token.token().empty()) return absl::StrCat("<|", token.id(), "|>");
  if (IsUtf8(token.token())) return token.token();
  std::string key = "bytes:";
  for (const char c : token.token()) {
    absl::StrAppend(&key, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
  }
  return key;
}

Json ChatToken(const v1::TokenLogprob& token) {
  Json bytes = Json::array();
  for (const char c : token.token()) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", TokenText(token)}, {"logprob", token.logprob()}, {"bytes", std::move(bytes)}};
}

Json ChatLogprobs(const Logprobs& tokens) {
  Json content = Json::array();
  for (const v1::TokenLogprob& token : tokens) {
    Json entry = ChatToken(token);
    entry["top_logprobs"] = Json::array();
    for (const v1::TokenLogprob& top : token.top()) entry["top_logprobs"].push_back(ChatToken(top));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

size_t Characters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

// The likeliest tokens, and the one that stands there.
Json TopTokens(const v1::TokenLogprob& token) {
  Json top = Json::object();
  for (const v1::TokenLogprob& other : token.top()) top[TokenKey(other)] = other.logprob();
  top[TokenKey(token)] = token.logprob();
  return top;
}

// `offset`: characters before the first token; grows by theirs.
template <typename Tokens>
Json CompletionLogprobs(const Tokens& tokens, bool first_has_none, size_t* offset) {
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  bool has_none = first_has_none;
  for (const v1::TokenLogprob& token : tokens) {
    json["tokens"].push_back(TokenKey(token));
    json["token_logprobs"].push_back(has_none ? Json() : Json(token.logprob()));
    json["top_logprobs"].push_back(has_none ? Json() : TopTokens(token));
    json["text_offset"].push_back(*offset);
    *offset += Characters(token.token());
    has_none = false;
  }
  return json;
}

Json Head(const AnswerIdentity& identity, const v1::Started& started) {
  return {{"id", identity.id},
          {"object", identity.object},
          {"created", identity.created_s},
          {"model", ModelNameOf(started.route())},
          {"system_fingerprint", started.model_digest()}};
}

Json StartedExtension(const v1::Started& started) {
  return {{"request_id", started.request_id()},
          {"route", rpc::RouteJson(started.route())},
          {"seed", started.seed()}};
}

}  // namespace

std::string ModelNameOf(const v1::RouteDecision& route) {
  return absl::StrCat(route.domain(), "@", route.version());
}

Json OpenAiUsage(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"total_tokens", usage.prompt_tokens() + usage.completion_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens()}}}};
}

std::string FinishReasonOf(const v1::Finished& finished) {
  return finished.reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

Json ExtensionJson(const v1::Started& started, const v1::Finished& finished) {
  Json json = StartedExtension(started);
  json["timings_ms"] = rpc::TimingsJson(finished.timings());
  json["cached_tokens"] = finished.usage().cached_tokens();
  json["matched_stop"] = finished.matched_stop();
  json["steps"] = Json::array();
  for (const v1::StepReport& step : finished.steps()) json["steps"].push_back(rpc::StepJson(step));
  return json;
}

Json ChatAnswer(const AnswerIdentity& identity, const v1::GenerateResponse& answer,
                const v1::GenerateRequest& request) {
  Json json = Head(identity, answer.started());
  const bool logprobs = request.output().has_top_logprobs();
  json["choices"] = Json::array(
      {{{"index", 0},
        {"message", {{"role", "assistant"}, {"content", answer.text()}, {"refusal", nullptr}}},
        {"logprobs", logprobs ? ChatLogprobs(answer.logprobs()) : Json()},
        {"finish_reason", FinishReasonOf(answer.finished())}}});
  json["usage"] = OpenAiUsage(answer.finished().usage());
  json["ccoe"] = ExtensionJson(answer.started(), answer.finished());
  return json;
}

Json CompletionAnswer(const AnswerIdentity& identity, const std::vector<CompletionChoice>& choices,
                      bool logprobs) {
  Json json = Head(identity, choices.front().started);
  json["choices"] = Json::array();
  v1::Usage usage;
  for (size_t i = 0; i < choices.size(); ++i) {
    const CompletionChoice& choice = choices[i];
    size_t offset = 0;
    json["choices"].push_back(
        {{"index", i},
         {"text", choice.text},
         {"logprobs",
          logprobs ? CompletionLogprobs(choice.logprobs, choice.first_has_none, &offset) : Json()},
         {"finish_reason", FinishReasonOf(choice.finished)}});
    const v1::Usage& used = choice.finished.usage();
    usage.set_prompt_tokens(usage.prompt_tokens() + used.prompt_tokens());
    usage.set_cached_tokens(usage.cached_tokens() + used.cached_tokens());
    usage.set_completion_tokens(usage.completion_tokens() + used.completion_tokens());
  }
  json["usage"] = OpenAiUsage(usage);
  json["ccoe"] = ExtensionJson(choices.front().started, choices.front().finished);
  return json;
}

ChunkWriter::ChunkWriter(Options options) : options_(std::move(options)) {}

Json ChunkWriter::Chunk(Json choices) const {
  Json chunk = Head(options_.identity, started_);
  chunk["choices"] = std::move(choices);
  if (options_.include_usage) chunk["usage"] = nullptr;
  return chunk;
}

Json ChunkWriter::Choice(const std::string& text, const Json& logprobs,
                         const Json& finish_reason) const {
  Json choice = {{"index", 0}};
  if (options_.kind == Kind::kCompletion) {
    choice["text"] = text;
  } else {
    choice["delta"] = Json::object();
    if (!text.empty() || finish_reason.is_null()) choice["delta"]["content"] = text;
  }
  choice["logprobs"] = logprobs;
  choice["finish_reason"] = finish_reason;
  return choice;
}

// Clients look into the first choice of every chunk, so there is one.
Json ChunkWriter::Aside(Json extension) const {
  Json chunk = Chunk(Json::array({Choice("", nullptr, nullptr)}));
  chunk["ccoe"] = std::move(extension);
  return chunk;
}

std::string ChunkWriter::Take(const v1::GenerateStreamResponse& event) {
  switch (event.event_case()) {
    case v1::GenerateStreamResponse::kStarted: {
      started_ = event.started();
      Json choice = Choice("", nullptr, nullptr);
      if (options_.kind == Kind::kChat) {
        choice["delta"] = {{"role", "assistant"}, {"content", ""}};
      }
      Json chunk = Chunk(Json::array({std::move(choice)}));
      chunk["ccoe"] = StartedExtension(started_);
      return ServerSentEvent(chunk);
    }
    case v1::GenerateStreamResponse::kStepStarted:
      // A request without a plan has one step, which tells nothing that Started did not.
      if (event.step_started().instruction().empty()) return "";
      return ServerSentEvent(Aside({{"step_started", rpc::StepStartedJson(event.step_started())}}));
    case v1::GenerateStreamResponse::kDelta:
      return TakeDelta(event.delta());
    case v1::GenerateStreamResponse::kStepFinished:
      return ServerSentEvent(Aside({{"step_finished", rpc::StepJson(event.step_finished())}}));
    case v1::GenerateStreamResponse::kFinished:
      return TakeFinished(event.finished());
    default:
      return "";
  }
}

std::string ChunkWriter::TakeDelta(const v1::Delta& delta) {
  if (delta.text().empty() && delta.logprobs().empty()) return "";
  Json logprobs;
  if (options_.logprobs && options_.kind == Kind::kChat) {
    logprobs = ChatLogprobs(delta.logprobs());
  } else if (options_.logprobs) {
    logprobs = CompletionLogprobs(delta.logprobs(), /*first_has_none=*/false, &text_offset_);
  }
  Json chunk = Chunk(Json::array({Choice(delta.text(), logprobs, nullptr)}));
  chunk["ccoe"] = {{"step", delta.step()}};
  return ServerSentEvent(chunk);
}

std::string ChunkWriter::TakeFinished(const v1::Finished& finished) {
  const Json reason = FinishReasonOf(finished);
  Json last = Chunk(Json::array({Choice("", nullptr, reason)}));
  last["ccoe"] = ExtensionJson(started_, finished);
  std::string events = ServerSentEvent(last);
  if (options_.include_usage) {
    Json usage = Chunk(Json::array());
    usage["usage"] = OpenAiUsage(finished.usage());
    events += ServerSentEvent(usage);
  }
  return events + kStreamEnd;
}

std::string ServerSentEvent(const Json& json) { return absl::StrCat("data: ", Dump(json), "\n\n"); }

}  // namespace ccoe::gateway
