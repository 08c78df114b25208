#include "common/runtime/prompt.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"

namespace ccoe::runtime {
namespace {

absl::Status CheckIds(const model::Model& model, const std::vector<int32_t>& ids) {
  const int vocab = model.config().vocab;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token id ", ids[i], " at index ", i, " is outside the vocabulary [0, ", vocab, ")"));
    }
  }
  return absl::OkStatus();
}

std::vector<model::TokenRange> LastUserTurns(const std::vector<model::TokenRange>& turns) {
  auto first = turns.end();
  for (int tokens = 0; first != turns.begin() && tokens < kMinRouteTokens;) {
    --first;
    tokens += first->end - first->begin;
  }
  return {first, turns.end()};
}

absl::StatusOr<EncodedPrompt> EncodeChat(const model::Model& model,
                                         const std::vector<model::Message>& messages) {
  CCOE_ASSIGN_OR_RETURN(
      model::RenderedChat chat,
      model.chat_template().Render(model.tokenizer(), messages, model::GenerationPrompt::kAdd));
  return EncodedPrompt{std::move(chat.ids), LastUserTurns(chat.user_turns)};
}

absl::StatusOr<EncodedPrompt> EncodeText(const model::Model& model, const std::string& text) {
  const std::vector<int32_t> encoded = model.tokenizer().Encode(text);
  EncodedPrompt prompt;
  if (encoded.empty()) return prompt;
  if (model.tokenizer().bos().has_value()) prompt.ids.push_back(*model.tokenizer().bos());
  prompt.ids.insert(prompt.ids.end(), encoded.begin(), encoded.end());
  return prompt;
}

absl::StatusOr<EncodedPrompt> Encode(const model::Model& model, const PromptInput& input) {
  if (const auto* messages = std::get_if<std::vector<model::Message>>(&input)) {
    return EncodeChat(model, *messages);
  }
  if (const auto* text = std::get_if<std::string>(&input)) return EncodeText(model, *text);
  const auto& ids = std::get<std::vector<int32_t>>(input);
  CCOE_RETURN_IF_ERROR(CheckIds(model, ids));
  return EncodedPrompt{ids, {}};
}

absl::StatusOr<std::vector<int32_t>> EncodeContinuation(const model::Model& model,
                                                        const PromptInput& input) {
  if (const auto* text = std::get_if<std::string>(&input)) return model.tokenizer().Encode(*text);
  CCOE_ASSIGN_OR_RETURN(EncodedPrompt encoded, EncodePrompt(model, input));
  return std::move(encoded.ids);
}

absl::StatusOr<NextStep> EncodeTurn(const model::Model& model, const SessionInput& input,
                                    const NextTurn& turn) {
  NextStep step;
  step.expert = turn.expert;
  step.sampling = turn.sampling;
  step.stop = turn.stop;
  if (!turn.message.has_value()) {
    step.from = NextStep::From::kPrompt;
    return step;
  }
  if (!std::holds_alternative<std::vector<model::Message>>(input.prompt)) {
    return absl::InvalidArgumentError("further steps need a conversation as the prompt");
  }
  const model::Message message{"user", *turn.message};
  CCOE_ASSIGN_OR_RETURN(
      step.tokens, model.chat_template().ContinueTurn(model.tokenizer(), model::AnswerEnd::kOpen,
                                                      {&message, 1}));
  return step;
}

absl::Status TooLong(size_t tokens, size_t limit) {
  return base::MakeError(
      base::Reason::kPromptTooLong,
      absl::StrCat("the prompt has ", tokens, " tokens; at most ", limit, " are allowed"),
      {.metadata = {{"prompt_tokens", absl::StrCat(tokens)},
                    {"max_prompt_tokens", absl::StrCat(limit)}},
       .retry_after = {}});
}

}  // namespace

absl::StatusOr<EncodedPrompt> EncodePrompt(const model::Model& model, const PromptInput& input) {
  CCOE_ASSIGN_OR_RETURN(EncodedPrompt prompt, Encode(model, input));
  if (prompt.ids.empty()) return absl::InvalidArgumentError("the prompt is empty");
  const int tokens = static_cast<int>(prompt.ids.size());
  if (prompt.route_tokens.empty()) prompt.route_tokens = {{std::min(1, tokens - 1), tokens}};
  return prompt;
}

absl::Status EncodeSession(const model::Model& model, const SessionInput& input, int max_context,
                           SessionSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(EncodedPrompt prompt, EncodePrompt(model, input.prompt));
  spec->prompt = std::move(prompt.ids);
  spec->route_tokens = std::move(prompt.route_tokens);
  const auto context = static_cast<size_t>(max_context);
  size_t limit = context;
  if (input.continuation.has_value()) {
    spec->score_from = static_cast<int>(spec->prompt.size());
    CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> continuation,
                          EncodeContinuation(model, *input.continuation));
    spec->prompt.insert(spec->prompt.end(), continuation.begin(), continuation.end());
  } else if (spec->stop.max_tokens > 0) {
    limit -= 1;  // room for one token at least
  }
  if (input.max_prompt_tokens > 0) {
    limit = std::min(limit, static_cast<size_t>(input.max_prompt_tokens));
  }
  if (spec->prompt.size() > limit) return TooLong(spec->prompt.size(), limit);
  spec->stop.max_tokens =
      std::min(spec->stop.max_tokens, max_context - static_cast<int>(spec->prompt.size()));
  for (const NextTurn& turn : input.next_turns) {
    CCOE_ASSIGN_OR_RETURN(spec->next_steps.emplace_back(), EncodeTurn(model, input, turn));
  }
  return absl::OkStatus();
}

}  // namespace ccoe::runtime
