#include "common/runtime/prompt.h"

#include <algorithm>
#include <numeric>
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

std::vector<int> ShareTokens(absl::Span<const int> limits, int total) {
  std::vector<int> shares(limits.begin(), limits.end());
  const int64_t sum = std::accumulate(limits.begin(), limits.end(), int64_t{0});
  if (sum <= total) return shares;
  // One for each, and of what is left its share.
  const int64_t rest = total - static_cast<int64_t>(limits.size());
  for (int& share : shares) share = 1 + static_cast<int>(rest * share / sum);
  return shares;
}

absl::Status EncodeSession(const model::Model& model, const SessionInput& input, int max_context,
                           SessionSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(EncodedPrompt prompt, EncodePrompt(model, input.prompt));
  spec->prompt = std::move(prompt.ids);
  spec->route_tokens = std::move(prompt.route_tokens);
  if (input.continuation.has_value()) {
    spec->score_from = static_cast<int>(spec->prompt.size());
    CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> continuation,
                          EncodeContinuation(model, *input.continuation));
    spec->prompt.insert(spec->prompt.end(), continuation.begin(), continuation.end());
  }
  // The answers that one context has to hold: the first one's, and those that follow it.
  size_t tokens = spec->prompt.size();
  std::vector<StopConditions*> answers = {&spec->stop};
  for (const NextTurn& turn : input.next_turns) {
    CCOE_ASSIGN_OR_RETURN(NextStep step, EncodeTurn(model, input, turn));
    tokens += step.tokens.size();
    spec->next_steps.push_back(std::move(step));
  }
  for (NextStep& step : spec->next_steps) {
    if (step.from == NextStep::From::kAnswer) answers.push_back(&step.stop);
  }
  size_t limit = max_context;
  if (!spec->score_from.has_value() && spec->stop.max_tokens > 0) {
    limit -= std::min(limit, answers.size());  // room for one token of each at least
  }
  if (input.max_prompt_tokens > 0) {
    limit = std::min(limit, static_cast<size_t>(input.max_prompt_tokens));
  }
  if (tokens > limit) return TooLong(tokens, limit);
  const int room = max_context - static_cast<int>(tokens);
  std::vector<int> limits;
  limits.reserve(answers.size());
  for (const StopConditions* stop : answers) limits.push_back(stop->max_tokens);
  if (answers.size() == 1) limits[0] = std::min(limits[0], room);
  limits = ShareTokens(limits, room);
  for (size_t i = 0; i < answers.size(); ++i) answers[i]->max_tokens = limits[i];
  for (NextStep& step : spec->next_steps) {  // that answer the prompt once more
    step.stop.max_tokens = std::min(step.stop.max_tokens, room);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::runtime
