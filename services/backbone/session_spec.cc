#include "services/backbone/session_spec.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/link_session.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/request_context.h"
#include "common/runtime/prompt.h"

namespace ccoe::backbone {
namespace {

// For requests that do not say how long they may wait.
constexpr absl::Duration kMaxQueueTime = absl::Seconds(30);

absl::Status TooLong(size_t tokens, size_t limit) {
  return base::MakeError(
      base::Reason::kPromptTooLong,
      absl::StrCat("the prompt has ", tokens, " tokens; at most ", limit, " are allowed"),
      {.metadata = {{"prompt_tokens", absl::StrCat(tokens)},
                    {"max_prompt_tokens", absl::StrCat(limit)}},
       .retry_after = {}});
}

// The continuation to score: no beginning-of-text token, no template.
absl::StatusOr<std::vector<int32_t>> EncodeContinuation(const model::Model& model,
                                                        const internal::v1::PromptInput& input) {
  CCOE_ASSIGN_OR_RETURN(const runtime::PromptInput decoded, rpc::DecodeInput(input));
  if (const auto* text = std::get_if<std::string>(&decoded)) return model.tokenizer().Encode(*text);
  return runtime::EncodePrompt(model, decoded);
}

}  // namespace

absl::StatusOr<runtime::SessionSpec> MakeSessionSpec(const internal::v1::OpenSession& open,
                                                     const model::Model& model, int max_context,
                                                     absl::Time now) {
  runtime::SessionSpec spec;
  spec.request_id = open.request_id();
  if (rpc::IsValidTraceparent(open.traceparent())) spec.traceparent = open.traceparent();
  CCOE_ASSIGN_OR_RETURN(const runtime::PromptInput input, rpc::DecodeInput(open.input()));
  CCOE_ASSIGN_OR_RETURN(spec.prompt, runtime::EncodePrompt(model, input));
  size_t room = 0;
  if (open.has_continuation()) {
    spec.score_from = static_cast<int>(spec.prompt.size());
    CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> continuation,
                          EncodeContinuation(model, open.continuation()));
    spec.prompt.insert(spec.prompt.end(), continuation.begin(), continuation.end());
  } else {
    CCOE_ASSIGN_OR_RETURN(spec.sampling, rpc::DecodeSampling(open.sampling()));
    CCOE_ASSIGN_OR_RETURN(spec.stop, rpc::DecodeStop(open.stop()));
    room = spec.stop.max_tokens > 0 ? 1 : 0;
  }
  size_t limit = static_cast<size_t>(max_context) - room;
  if (open.max_prompt_tokens() > 0) {
    limit = std::min(limit, static_cast<size_t>(open.max_prompt_tokens()));
  }
  if (spec.prompt.size() > limit) return TooLong(spec.prompt.size(), limit);
  spec.stop.max_tokens =
      std::min(spec.stop.max_tokens, max_context - static_cast<int>(spec.prompt.size()));
  spec.queue_deadline =
      now + (open.has_max_queue_time() ? rpc::FromProto(open.max_queue_time()) : kMaxQueueTime);
  return spec;
}

}  // namespace ccoe::backbone
