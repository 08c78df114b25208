#include "services/backbone/session_call.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_session.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"
#include "services/backbone/session_spec.h"

namespace ccoe::backbone {

using internal::v1::SessionRequest;
using internal::v1::SessionResponse;
using telemetry::LogField;

SessionCall::SessionCall(const SessionCallOptions& options, grpc::CallbackServerContext& context)
    : options_(options), context_(&context) {
  StartRead(&request_);
}

void SessionCall::Unref() {
  if (refs_.fetch_sub(1) == 1) delete this;
}

void SessionCall::OnDone() {
  {
    base::MutexLock lock(&mutex_);
    context_ = nullptr;
    if (cut_off_alarm_ != nullptr) cut_off_alarm_->Cancel();
  }
  Unref();
}

void SessionCall::OnReadDone(bool ok) {
  if (!ok) return;  // the router has said all; a call that was broken off comes as OnCancel
  const absl::Status status = Handle();
  if (!status.ok()) return Abort(status);
  StartRead(&request_);
}

absl::Status SessionCall::Handle() {
  switch (request_.message_case()) {
    case SessionRequest::kOpen:
      return Open(request_.open());
    case SessionRequest::kDecide:
      return Decide(request_.decide());
    case SessionRequest::kCancel:
      return absl::CancelledError("the router cancelled the session");
    case SessionRequest::kPause:
    case SessionRequest::kResume: {
      base::MutexLock lock(&mutex_);
      paused_by_router_ = request_.has_pause();
      if (!session_.has_value() || slow_) return absl::OkStatus();
      if (paused_by_router_) {
        options_.engine->Pause(*session_);
      } else {
        options_.engine->Resume(*session_);
      }
      return absl::OkStatus();
    }
    case SessionRequest::MESSAGE_NOT_SET:
      break;
  }
  return base::MakeError(base::Reason::kUnsupportedField, "a session message that is not known");
}

absl::Status SessionCall::Open(const internal::v1::OpenSession& open) {
  if (opened_) return absl::InvalidArgumentError("the session is open already");
  opened_ = true;
  request_id_ = open.request_id();
  CCOE_ASSIGN_OR_RETURN(spec_,
                        MakeSessionSpec(open, *options_.model, options_.max_context, absl::Now()));
  prompt_tokens_ = spec_->score_from.value_or(static_cast<int>(spec_->prompt.size()));
  if (open.want_pooled()) return Begin();
  TellRouteState({});
  return absl::OkStatus();
}

void SessionCall::TellRouteState(absl::Span<const float> pooled) {
  {
    base::MutexLock lock(&mutex_);
    if (!told_expert_) {
      decide_alarm_ = After(options_.decide_timeout, [this] {
        Abort(absl::DeadlineExceededError("no expert was decided for in time"));
      });
    }
  }
  SessionResponse response;
  response.mutable_route_state()->set_prompt_tokens(prompt_tokens_);
  response.mutable_route_state()->mutable_pooled()->Add(pooled.begin(), pooled.end());
  Send(std::move(response));
}

void SessionCall::OnRouteState(absl::Span<const float> pooled) { TellRouteState(pooled); }

absl::Status SessionCall::Decide(const internal::v1::Decide& decide) {
  if (!opened_ || decided_) return absl::InvalidArgumentError("Decide belongs after Open, once");
  if (decide.replicas_size() > 0) {
    return base::MakeError(base::Reason::kUnsupportedField,
                           "this backbone chooses the replica itself; leave replicas empty");
  }
  decided_ = true;
  runtime::ExpertKey expert{decide.expert().name(), decide.expert().version()};
  if (expert.name.empty()) return absl::InvalidArgumentError("Decide names no expert");
  if (spec_.has_value()) {
    spec_->expert = std::move(expert);
    return Begin();
  }
  base::MutexLock lock(&mutex_);
  told_expert_ = true;
  if (decide_alarm_ != nullptr) decide_alarm_->Cancel();
  if (session_.has_value()) options_.engine->Decide(*session_, std::move(expert));
  return absl::OkStatus();
}

absl::Status SessionCall::Begin() {
  runtime::SessionSpec spec = *std::exchange(spec_, std::nullopt);
  telemetry::LogInfo("session_opened", {{"request_id", spec.request_id},
                                        LogField::IfAny("expert", spec.expert.name),
                                        {"prompt_tokens", spec.prompt.size()},
                                        LogField::IfAny("traceparent", spec.traceparent)});
  refs_.fetch_add(1);             // the engine's, until OnFinished or OnFailed
  base::MutexLock lock(&mutex_);  // the engine's first event finds session_ set
  const absl::StatusOr<runtime::SessionId> session = options_.engine->Open(std::move(spec), this);
  if (!session.ok()) {
    refs_.fetch_sub(1);
    return session.status();
  }
  if (decide_alarm_ != nullptr) decide_alarm_->Cancel();
  session_ = *session;
  if (ending_ && !end_status_.ok()) {  // broken off meanwhile
    options_.engine->Cancel(*session, end_status_);
  } else if (paused_by_router_) {
    options_.engine->Pause(*session);
  }
  return absl::OkStatus();
}

void SessionCall::OnAdmitted() {
  SessionResponse response;
  response.mutable_admitted();
  Send(std::move(response));
}

void SessionCall::OnDelta(const runtime::Delta& delta) {
  SessionResponse response;
  rpc::EncodeDelta(delta, response.mutable_delta());
  Send(std::move(response));
}

void SessionCall::OnStepFinished(const runtime::Finished& finished) {
  LogFinished("session_step_finished", finished);
  SessionResponse response;
  rpc::EncodeFinished(finished, response.mutable_step_finished());
  Send(std::move(response));
}

void SessionCall::LogFinished(const char* event, const runtime::Finished& finished) const {
  telemetry::LogInfo(event, {{"request_id", request_id_},
                             {"prompt_tokens", finished.usage.prompt_tokens},
                             {"completion_tokens", finished.usage.completion_tokens},
                             {"queue_ms", finished.timings.queue},
                             {"prefill_ms", finished.timings.prefill},
                             {"decode_ms", finished.timings.decode}});
}

void SessionCall::OnFinished(const runtime::Finished& finished) {
  LogFinished("session_finished", finished);
  SessionResponse response;
  rpc::EncodeFinished(finished, response.mutable_finished());
  {
    base::MutexLock lock(&mutex_);
    session_.reset();
    if (!ending_) {
      queue_.push_back(std::move(response));
      EndLocked();
    }
  }
  Unref();
}

void SessionCall::OnFailed(const absl::Status& status) {
  telemetry::LogInfo("session_failed", {{"request_id", request_id_},
                                        {"code", absl::StatusCodeToString(status.code())},
                                        {"reason", base::EntryOf(base::ReasonOf(status)).name}});
  {
    base::MutexLock lock(&mutex_);
    session_.reset();
  }
  Abort(status);
  Unref();
}

void SessionCall::Abort(const absl::Status& status) {
  base::MutexLock lock(&mutex_);
  if (decide_alarm_ != nullptr) decide_alarm_->Cancel();
  if (slow_alarm_ != nullptr) slow_alarm_->Cancel();
  if (session_.has_value()) options_.engine->Cancel(*session_, status);
  if (!end_status_.ok() || finished_) return;
  end_status_ = status;
  queue_.clear();
  EndLocked();
}

void SessionCall::EndLocked() {
  ending_ = true;
  Pump();
  // The router may read neither what was written before nor the status.
  if (cut_off_alarm_ != nullptr) return;
  cut_off_alarm_ = After(options_.slow_reader_timeout, [this] {
    base::MutexLock lock(&mutex_);
    if (context_ != nullptr) context_->TryCancel();
  });
}

void SessionCall::OnCancel() { Abort(absl::CancelledError("the router ended the call")); }

void SessionCall::Send(SessionResponse response) {
  base::MutexLock lock(&mutex_);
  if (ending_) return;
  queue_.push_back(std::move(response));
  WatchSlowReader();
  Pump();
}

void SessionCall::OnWriteDone(bool /*ok*/) {
  base::MutexLock lock(&mutex_);
  writing_ = false;
  WatchSlowReader();
  Pump();
}

// Writes and finishes under the lock, so that no write starts after Finish. gRPC runs no reaction
// inside.
void SessionCall::Pump() {
  if (writing_ || finished_) return;
  if (!queue_.empty()) {
    in_flight_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    StartWrite(&in_flight_);
  } else if (ending_) {
    finished_ = true;
    if (slow_alarm_ != nullptr) slow_alarm_->Cancel();
    Finish(rpc::ToGrpcStatus(end_status_));
  }
}

void SessionCall::WatchSlowReader() {
  if (!slow_ && queue_.size() >= options_.max_queued_responses) {
    slow_ = true;
    if (session_.has_value()) options_.engine->Pause(*session_);
    slow_alarm_ = After(options_.slow_reader_timeout, [this] {
      Abort(base::MakeError(base::Reason::kSlowReader,
                            "the router did not read its stream for too long"));
    });
  } else if (slow_ && queue_.size() <= options_.max_queued_responses / 4) {
    slow_ = false;
    slow_alarm_->Cancel();
    if (session_.has_value() && !paused_by_router_) options_.engine->Resume(*session_);
  }
}

std::unique_ptr<grpc::Alarm> SessionCall::After(absl::Duration delay, std::function<void()> then) {
  auto alarm = std::make_unique<grpc::Alarm>();
  refs_.fetch_add(1);
  alarm->Set(absl::ToChronoTime(absl::Now() + delay), [this, then = std::move(then)](bool expired) {
    if (expired) then();
    Unref();
  });
  return alarm;
}

}  // namespace ccoe::backbone
