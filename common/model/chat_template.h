#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/tokenizer.h"

namespace ccoe::model {

// One turn of a conversation. Roles: "system" (first message only), "user", "assistant".
struct Message {
  std::string role;
  std::string content;
};

// Tokens [begin, end) of a sequence.
struct TokenRange {
  int begin = 0;
  int end = 0;

  friend bool operator==(const TokenRange&, const TokenRange&) = default;
};

struct RenderedChat {
  std::vector<int32_t> ids;
  std::vector<TokenRange> user_turns;  // what users said, without role and control tokens; in order
};

// Whether the rendering ends with the opening of the assistant's answer.
enum class GenerationPrompt { kNone, kAdd };

// Whether the answer in the sequence so far already ends with its end-of-turn token.
enum class AnswerEnd { kOpen, kClosed };

// Turns conversations into token ids the way the model was trained. Message contents are encoded as
// ordinary text and so can never inject a control token. A value: immutable, thread-safe.
class ChatTemplate {
 public:
  enum class Kind { kUnknown, kChatMl, kSmolLm2, kQwen2, kQwen25, kQwen3, kLlama3, kLlama31 };

  // A template that renders nothing but an error: for models without one.
  ChatTemplate() = default;
  // Recognises a model's own template (Jinja text) by its fingerprints; never fails: one that is
  // not recognised gives a template whose Render says so.
  static ChatTemplate Recognise(std::string_view jinja);
  // By the names that --chat-template takes; INVALID_ARGUMENT lists them.
  static absl::StatusOr<ChatTemplate> ByName(std::string_view name);
  // "chatml, smollm2, ...": the values of --chat-template.
  static std::string Names();

  Kind kind() const { return kind_; }
  // The name that ByName takes; "unknown" for kUnknown.
  std::string_view name() const;

  // The whole conversation, including the beginning-of-text token where the model has one.
  // INVALID_ARGUMENT: no messages, an unknown role, or a system message that is
  // not the first. FAILED_PRECONDITION: the template is unknown (the message names
  // --chat-template), or the tokenizer lacks one of its control tokens.
  absl::StatusOr<RenderedChat> Render(const Tokenizer& tokenizer,
                                      absl::Span<const Message> messages,
                                      GenerationPrompt prompt) const;

  // The tokens that follow an answer and open the next one: the end of the assistant's turn (unless
  // it is there already), the messages `next` (no system message), and the opening of the answer.
  // Appended to a sequence made by Render and an answer, it gives what a rendering of the whole
  // conversation gives (but for Qwen3, whose template drops the thoughts of earlier answers).
  // Errors as of Render.
  absl::StatusOr<std::vector<int32_t>> ContinueTurn(const Tokenizer& tokenizer, AnswerEnd end,
                                                    absl::Span<const Message> next) const;

 private:
  explicit ChatTemplate(Kind kind) : kind_(kind) {}
  Kind kind_ = Kind::kUnknown;
};

}  // namespace ccoe::model
