#include "services/router/remote_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/link_session.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/request_context.h"
#include "common/rpc/status.h"

namespace ccoe::router {
namespace {

using internal::v1::SessionResponse;

internal::v1::SessionRequest MakeOpen(const SessionRequest& request) {
  internal::v1::SessionRequest message;
  internal::v1::OpenSession* open = message.mutable_open();
  open->set_request_id(request.request_id);
  open->set_traceparent(request.traceparent);
  rpc::EncodeInput(request.input.prompt, open->mutable_input());
  for (const runtime::NextTurn& turn : request.input.next_turns) {
    rpc::EncodeTurn(turn, open->add_next_turns());
  }
  if (request.input.continuation.has_value()) {
    rpc::EncodeInput(*request.input.continuation, open->mutable_continuation());
  }
  *open->mutable_sampling() = rpc::EncodeSampling(request.sampling);
  rpc::EncodeStop(request.stop, open->mutable_stop());
  open->set_want_pooled(request.expert.name.empty());
  open->set_cache_salt(request.cache_salt);
  open->set_routing_layer(request.routing_layer);
  open->mutable_flow()->set_key(request.flow.key);
  open->mutable_flow()->set_weight(request.flow.weight);
  open->set_max_prompt_tokens(request.input.max_prompt_tokens);
  if (request.queue_deadline != absl::InfiniteFuture()) {
    *open->mutable_max_queue_time() =
        rpc::ToProto(std::max(absl::ZeroDuration(), request.queue_deadline - absl::Now()));
  }
  return message;
}

}  // namespace

void RemoteSession::Start(internal::v1::BackboneService::StubInterface& stub,
                          const SessionRequest& request) {
  self_ = shared_from_this();
  rpc::WriteRequestContext({request.request_id, request.traceparent}, context_);
  stub.async()->Session(&context_, this);
  AddHold();  // writes come from outside of reactions
  undecided_ = request.expert.name.empty();
  wants_top_ = request.input.continuation.has_value() && request.sampling.top_logprobs > 0;
  Send(MakeOpen(request));
  if (!request.expert.name.empty()) Decide(request.expert);  // both messages go at once
  StartRead(&response_);
  StartCall();
}

void RemoteSession::Decide(const runtime::ExpertKey& expert) {
  internal::v1::SessionRequest message;
  message.mutable_decide()->mutable_expert()->set_name(expert.name);
  message.mutable_decide()->mutable_expert()->set_version(expert.version);
  Send(std::move(message));
}

void RemoteSession::Cancel(const absl::Status& why) {
  {
    base::MutexLock lock(&mutex_);
    if (cancelled_.ok()) cancelled_ = why;
  }
  context_.TryCancel();
}

void RemoteSession::Pause() {
  internal::v1::SessionRequest message;
  message.mutable_pause();
  Send(std::move(message));
}

void RemoteSession::Resume() {
  internal::v1::SessionRequest message;
  message.mutable_resume();
  Send(std::move(message));
}

void RemoteSession::OnReadDone(bool ok) {
  if (!ok) return Close();
  heard_ = true;
  if (const absl::Status status = Deliver(); !status.ok()) {
    Cancel(status);
    return Close();
  }
  StartRead(&response_);
}

absl::Status RemoteSession::Deliver() {
  if (finished_) return absl::OkStatus();
  switch (response_.message_case()) {
    case SessionResponse::kAdmitted:
      listener_.OnAdmitted();
      return absl::OkStatus();
    case SessionResponse::kDelta:
      listener_.OnDelta(rpc::DecodeDelta(response_.delta()));
      return absl::OkStatus();
    case SessionResponse::kStepFinished: {
      CCOE_ASSIGN_OR_RETURN(const runtime::Finished finished,
                            rpc::DecodeFinished(response_.step_finished()));
      listener_.OnStepFinished(finished);
      return absl::OkStatus();
    }
    case SessionResponse::kFinished: {
      CCOE_ASSIGN_OR_RETURN(const runtime::Finished finished,
                            rpc::DecodeFinished(response_.finished()));
      CCOE_RETURN_IF_ERROR(CheckScores(finished));
      finished_ = true;
      listener_.OnFinished(finished);
      return absl::OkStatus();
    }
    case SessionResponse::kRouteState:
      if (undecided_) listener_.OnRouteState(response_.route_state().pooled());
      undecided_ = false;
      return absl::OkStatus();
    case SessionResponse::MESSAGE_NOT_SET:
      break;
  }
  return absl::OkStatus();  // of a later version
}

absl::Status RemoteSession::CheckScores(const runtime::Finished& finished) const {
  for (const runtime::GeneratedToken& score : finished.scores) {
    if (wants_top_ && score.top.empty()) {
      return base::MakeError(base::Reason::kUnimplemented,
                             "the backbone or the expert process is of an older version, which "
                             "tells no top_logprobs of scored tokens");
    }
  }
  return absl::OkStatus();
}

void RemoteSession::OnWriteDone(bool ok) {
  base::MutexLock lock(&mutex_);
  writing_ = false;
  if (ok && !closed_) Pump();
}

void RemoteSession::OnDone(const grpc::Status& status) {
  if (!finished_) listener_.OnFailed(FinalStatus(status));
  const std::function<void()> on_done = std::move(on_done_);
  self_ = nullptr;  // the owner's is left
  on_done();
}

absl::Status RemoteSession::FinalStatus(const grpc::Status& status) {
  {
    base::MutexLock lock(&mutex_);
    if (!cancelled_.ok()) return cancelled_;
  }
  // The backbone's own errors carry details; a transport's do not.
  if (status.ok() || status.error_details().empty()) {
    return base::MakeError(
        heard_ ? base::Reason::kConnectionLost : base::Reason::kBackboneUnavailable,
        absl::StrCat("the connection to the backbone was lost: ", status.error_message()));
  }
  return rpc::FromGrpcStatus(status);
}

void RemoteSession::Send(internal::v1::SessionRequest message) {
  base::MutexLock lock(&mutex_);
  if (closed_) return;
  queue_.push_back(std::move(message));
  Pump();
}

// Writes under the lock, so that no write starts after Close. gRPC runs no reaction inside.
void RemoteSession::Pump() {
  if (writing_ || queue_.empty()) return;
  in_flight_ = std::move(queue_.front());
  queue_.pop_front();
  writing_ = true;
  StartWrite(&in_flight_);
}

void RemoteSession::Close() {
  base::MutexLock lock(&mutex_);
  if (closed_) return;
  closed_ = true;
  queue_.clear();
  RemoveHold();
}

}  // namespace ccoe::router
