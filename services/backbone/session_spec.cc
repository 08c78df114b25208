#include "services/backbone/session_spec.h"

#include <algorithm>

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

}  // namespace

absl::StatusOr<runtime::SessionSpec> MakeSessionSpec(const internal::v1::OpenSession& open,
                                                     const model::Model& model, int max_context,
                                                     absl::Time now) {
  runtime::SessionSpec spec;
  spec.request_id = open.request_id();
  if (rpc::IsValidTraceparent(open.traceparent())) spec.traceparent = open.traceparent();
  runtime::SessionInput input;
  input.max_prompt_tokens = open.max_prompt_tokens();
  CCOE_ASSIGN_OR_RETURN(input.prompt, rpc::DecodeInput(open.input()));
  if (open.has_sampling() || !open.has_continuation()) {
    CCOE_ASSIGN_OR_RETURN(spec.sampling, rpc::DecodeSampling(open.sampling()));
  }
  if (open.has_continuation()) {
    CCOE_ASSIGN_OR_RETURN(input.continuation, rpc::DecodeInput(open.continuation()));
  } else {
    CCOE_ASSIGN_OR_RETURN(spec.stop, rpc::DecodeStop(open.stop()));
  }
  for (const internal::v1::NextTurn& turn : open.next_turns()) {
    CCOE_ASSIGN_OR_RETURN(input.next_turns.emplace_back(), rpc::DecodeTurn(turn));
  }
  spec.flow = {open.flow().key(), std::max(1, open.flow().weight())};
  if (open.want_pooled()) spec.routing_layer = open.routing_layer();
  CCOE_RETURN_IF_ERROR(runtime::EncodeSession(model, input, max_context, &spec));
  spec.cache_salt = open.cache_salt();
  spec.queue_deadline =
      now + (open.has_max_queue_time() ? rpc::FromProto(open.max_queue_time()) : kMaxQueueTime);
  return spec;
}

}  // namespace ccoe::backbone
