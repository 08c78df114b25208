#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/chat_template.h"
#include "common/model/model.h"
#include "common/runtime/session.h"

namespace ccoe::runtime {

// What a client sent: a conversation (the model's chat template is applied), plain text, or ids.
using PromptInput = std::variant<std::vector<model::Message>, std::string, std::vector<int32_t>>;

// A conversation's last user turn tells its domain; one that is shorter than this is taken together
// with what the user said before it, so that "and for 2021?" stays where it belongs.
inline constexpr int kMinRouteTokens = 16;

struct EncodedPrompt {
  std::vector<int32_t> ids;  // not empty
  // The tokens by which the gate judges, in order: of a conversation the last user turns, whole
  // ones until there are kMinRouteTokens; otherwise all. Without position 0, whose state is like no
  // other, unless it is the only one. Not empty.
  std::vector<model::TokenRange> route_tokens;
};

// INVALID_ARGUMENT for an empty prompt, an unknown role, or an id outside the vocabulary. Control
// tokens spelled out in text stay text.
absl::StatusOr<EncodedPrompt> EncodePrompt(const model::Model& model, const PromptInput& input);

// A further step of a session.
struct NextTurn {
  ExpertKey expert;
  // What the user says next; nullopt: the prompt is answered again.
  std::optional<std::string> message;
  SamplingParams sampling;
  StopConditions stop;
};

// What a session's tokens are made of.
struct SessionInput {
  PromptInput prompt;
  std::vector<NextTurn> next_turns;         // after a conversation, or without a message
  std::optional<PromptInput> continuation;  // to score: no beginning-of-text token, no template
  int max_prompt_tokens = 0;                // 0: what the context holds
};

// The limits, where their sum is at most `total`; otherwise each one's share of it, at least 1. As
// many as there are limits fit into `total`.
std::vector<int> ShareTokens(absl::Span<const int> limits, int total);

// Sets the tokens of `spec` and its further steps, whose stop conditions are set, and cuts their
// max_tokens to what a context of `max_context` positions leaves; steps share it. They are joined
// as the turns of a conversation by the chat template. INVALID_ARGUMENT as of EncodePrompt and for
// a message after what is no conversation; PROMPT_TOO_LONG with both counts for a prompt and
// messages that leave no room for an answer of each step.
absl::Status EncodeSession(const model::Model& model, const SessionInput& input, int max_context,
                           SessionSpec* spec);

}  // namespace ccoe::runtime
