#include "common/rpc/link_session.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/proto_time.h"

namespace ccoe::rpc {
namespace {

using runtime::FinishReason;

internal::v1::FinishReason EncodeReason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return internal::v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return internal::v1::FINISH_REASON_LENGTH;
    case FinishReason::kStopSequence:
      return internal::v1::FINISH_REASON_STOP_SEQUENCE;
    case FinishReason::kScored:
      return internal::v1::FINISH_REASON_SCORED;
  }
  return internal::v1::FINISH_REASON_UNSPECIFIED;
}

absl::StatusOr<FinishReason> DecodeReason(internal::v1::FinishReason reason) {
  switch (reason) {
    case internal::v1::FINISH_REASON_STOP:
      return FinishReason::kStop;
    case internal::v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case internal::v1::FINISH_REASON_STOP_SEQUENCE:
      return FinishReason::kStopSequence;
    case internal::v1::FINISH_REASON_SCORED:
      return FinishReason::kScored;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unknown finish reason ", static_cast<int>(reason)));
  }
}

}  // namespace

void EncodeInput(const runtime::PromptInput& input, internal::v1::PromptInput* out) {
  if (const auto* messages = std::get_if<std::vector<model::Message>>(&input)) {
    internal::v1::ChatInput* chat = out->mutable_chat();
    for (const model::Message& message : *messages) {
      internal::v1::ChatMessage* entry = chat->add_messages();
      entry->set_role(message.role);
      entry->set_content(message.content);
    }
  } else if (const auto* text = std::get_if<std::string>(&input)) {
    out->set_text(*text);
  } else {
    const auto& ids = std::get<std::vector<int32_t>>(input);
    out->mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
  }
}

absl::StatusOr<runtime::PromptInput> DecodeInput(const internal::v1::PromptInput& input) {
  switch (input.input_case()) {
    case internal::v1::PromptInput::kChat: {
      std::vector<model::Message> messages;
      for (const internal::v1::ChatMessage& message : input.chat().messages()) {
        messages.push_back({message.role(), message.content()});
      }
      return messages;
    }
    case internal::v1::PromptInput::kText:
      return input.text();
    case internal::v1::PromptInput::kTokenIds:
      return std::vector<int32_t>(input.token_ids().ids().begin(), input.token_ids().ids().end());
    case internal::v1::PromptInput::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the prompt is missing");
}

void EncodeStop(const runtime::StopConditions& stop, internal::v1::StopConditions* out) {
  out->set_max_tokens(stop.max_tokens);
  for (const std::string& sequence : stop.stop_sequences) out->add_stop_sequences(sequence);
  out->set_ignore_end_of_generation(stop.ignore_end_of_generation);
}

absl::StatusOr<runtime::StopConditions> DecodeStop(const internal::v1::StopConditions& stop) {
  if (stop.max_tokens() < 0) return absl::InvalidArgumentError("max_tokens is negative");
  runtime::StopConditions out;
  out.max_tokens = stop.max_tokens();
  out.ignore_end_of_generation = stop.ignore_end_of_generation();
  for (const std::string& sequence : stop.stop_sequences()) {
    if (sequence.empty()) return absl::InvalidArgumentError("a stop sequence is empty");
    out.stop_sequences.push_back(sequence);
  }
  return out;
}

void EncodeTurn(const runtime::NextTurn& turn, internal::v1::NextTurn* out) {
  out->mutable_expert()->set_name(turn.expert.name);
  out->mutable_expert()->set_version(turn.expert.version);
  if (turn.message.has_value()) out->set_message(*turn.message);
  *out->mutable_sampling() = EncodeSampling(turn.sampling);
  EncodeStop(turn.stop, out->mutable_stop());
}

absl::StatusOr<runtime::NextTurn> DecodeTurn(const internal::v1::NextTurn& turn) {
  runtime::NextTurn out;
  out.expert = {turn.expert().name(), turn.expert().version()};
  if (turn.has_message()) out.message = turn.message();
  CCOE_ASSIGN_OR_RETURN(out.sampling, DecodeSampling(turn.sampling()));
  CCOE_ASSIGN_OR_RETURN(out.stop, DecodeStop(turn.stop()));
  return out;
}

void EncodeDelta(const runtime::Delta& delta, internal::v1::SessionDelta* out) {
  out->set_text(delta.text);
  out->set_token_offset(delta.token_offset);
  for (const runtime::GeneratedToken& token : delta.tokens) EncodeToken(token, out->add_tokens());
}

runtime::Delta DecodeDelta(const internal::v1::SessionDelta& delta) {
  runtime::Delta out;
  out.text = delta.text();
  out.token_offset = delta.token_offset();
  for (const internal::v1::GeneratedToken& token : delta.tokens()) {
    out.tokens.push_back(DecodeToken(token));
  }
  return out;
}

void EncodeFinished(const runtime::Finished& finished, internal::v1::SessionFinished* out) {
  out->set_reason(EncodeReason(finished.reason));
  out->set_matched_stop(finished.matched_stop);
  out->set_text(finished.text);
  for (const runtime::GeneratedToken& score : finished.scores) {
    internal::v1::TokenLogprob* entry = out->add_scores();
    entry->set_id(score.id);
    entry->set_logprob(score.logprob);
    for (const runtime::TokenLogprob& top : score.top) {
      internal::v1::TokenLogprob* likely = entry->add_top();
      likely->set_id(top.id);
      likely->set_logprob(top.logprob);
    }
  }
  out->mutable_usage()->set_prompt_tokens(finished.usage.prompt_tokens);
  out->mutable_usage()->set_cached_tokens(finished.usage.cached_tokens);
  out->mutable_usage()->set_completion_tokens(finished.usage.completion_tokens);
  *out->mutable_timings()->mutable_queue() = ToProto(finished.timings.queue);
  *out->mutable_timings()->mutable_prefill() = ToProto(finished.timings.prefill);
  *out->mutable_timings()->mutable_decode() = ToProto(finished.timings.decode);
}

absl::StatusOr<runtime::Finished> DecodeFinished(const internal::v1::SessionFinished& finished) {
  runtime::Finished out;
  CCOE_ASSIGN_OR_RETURN(out.reason, DecodeReason(finished.reason()));
  out.matched_stop = finished.matched_stop();
  out.text = finished.text();
  for (const internal::v1::TokenLogprob& score : finished.scores()) {
    runtime::GeneratedToken& token = out.scores.emplace_back();
    token.id = score.id();
    token.logprob = score.logprob();
    token.top.reserve(score.top_size());
    for (const internal::v1::TokenLogprob& top : score.top()) {
      token.top.push_back({top.id(), top.logprob()});
    }
  }
  out.usage.prompt_tokens = finished.usage().prompt_tokens();
  out.usage.cached_tokens = finished.usage().cached_tokens();
  out.usage.completion_tokens = finished.usage().completion_tokens();
  out.timings.queue = FromProto(finished.timings().queue());
  out.timings.prefill = FromProto(finished.timings().prefill());
  out.timings.decode = FromProto(finished.timings().decode());
  return out;
}

}  // namespace ccoe::rpc
