#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ccoe/v1/generation_service.pb.h"
#include "nlohmann/json.hpp"

// The public API's answers as OpenAI's (docs/http.md). Pure functions.
namespace ccoe::gateway {

// What identifies an answer in each of its parts.
struct AnswerIdentity {
  std::string id;         // "chatcmpl-..." or "cmpl-..."
  std::string object;     // as OpenAI names the kind of answer
  int64_t created_s = 0;  // Unix time
};

// The name under which an expert is asked for: "sql@1.0.0".
std::string ModelNameOf(const v1::RouteDecision& route);

// `usage` of an answer.
nlohmann::ordered_json OpenAiUsage(const v1::Usage& usage);
// "stop" or "length".
std::string FinishReasonOf(const v1::Finished& finished);

// The object `ccoe` of a whole answer, and of the last chunk of a stream.
nlohmann::ordered_json ExtensionJson(const v1::Started& started, const v1::Finished& finished);

// POST /v1/chat/completions, whole.
nlohmann::ordered_json ChatAnswer(const AnswerIdentity& identity,
                                  const v1::GenerateResponse& answer,
                                  const v1::GenerateRequest& request);

// The chunks of one streamed answer, chat's or a completion's.
class ChunkWriter {
 public:
  enum class Kind { kChat, kCompletion };
  struct Options {
    Kind kind = Kind::kChat;
    AnswerIdentity identity;
    bool include_usage = false;
    bool logprobs = false;
  };
  explicit ChunkWriter(Options options);

  // The chunks that an event becomes, as server-sent events; the last one's end the stream.
  std::string Take(const v1::GenerateStreamResponse& event);

 private:
  nlohmann::ordered_json Chunk(nlohmann::ordered_json choices) const;
  nlohmann::ordered_json Choice(const std::string& text, const nlohmann::ordered_json& logprobs,
                                const nlohmann::ordered_json& finish_reason) const;
  // A chunk that adds no text.
  nlohmann::ordered_json Aside(nlohmann::ordered_json extension) const;
  std::string TakeDelta(const v1::Delta& delta);
  std::string TakeFinished(const v1::Finished& finished);

  const Options options_;
  v1::Started started_;
  size_t text_offset_ = 0;  // characters of the answer before the next chunk
};

// A choice of POST /v1/completions as it is put together.
struct CompletionChoice {
  std::string text;
  std::vector<v1::TokenLogprob> logprobs;  // of the tokens of `text`
  bool first_has_none = false;             // the first of them has nothing before it
  v1::Started started;
  v1::Finished finished;
};

// POST /v1/completions, whole; `logprobs`: whether they were asked for. Requires a choice.
nlohmann::ordered_json CompletionAnswer(const AnswerIdentity& identity,
                                        const std::vector<CompletionChoice>& choices,
                                        bool logprobs);

// `data: ...` and an empty line.
std::string ServerSentEvent(const nlohmann::ordered_json& json);

}  // namespace ccoe::gateway
