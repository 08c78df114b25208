#include "services/router/stream_call.h"

#include <random>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/rpc/status.h"
#include "services/router/call_info.h"
#include "services/router/convert.h"

namespace ccoe::router {

grpc::ServerWriteReactor<v1::GenerateStreamResponse>* StreamCall::Start(
    RouterCore* core, grpc::CallbackServerContext* context, const v1::GenerateRequest& request,
    uint64_t fresh_seed) {
  auto call = std::make_shared<StreamCall>(core, context,
                                           ReadCallInfo("GenerateStream", core->keys(), *context));
  call->self_ = call;
  if (call->deadline() < call->info().deadline) {
    call->deadline_timer_.Set(call->deadline(), call, &StreamCall::CancelAtLimit);
  }
  call->Begin(ParseGenerate(request, core->limits(), fresh_seed));
  return call.get();  // OnDone, which ends its life, comes after this returned
}

StreamCall::StreamCall(RouterCore* core, grpc::CallbackServerContext* context, CallInfo info)
    : SessionCall(core, std::move(info)), context_(*context), progress_at_(absl::Now()) {}

void StreamCall::Admitted() {
  base::MutexLock lock(&mutex_);
  context_.AddInitialMetadata(rpc::kRequestIdKey, info().request_id);
  v1::GenerateStreamResponse started;
  *started.mutable_started() = StartedProto(info(), resolved(), request().sampling.seed);
  Push(std::move(started));
  PushStepStarted();
}

void StreamCall::StepBegan() {
  base::MutexLock lock(&mutex_);
  PushStepStarted();
}

void StreamCall::StepEnded() {
  base::MutexLock lock(&mutex_);
  v1::GenerateStreamResponse event;
  *event.mutable_step_finished() = StepReportProto(resolved(), step());
  Push(std::move(event));
}

void StreamCall::PushStepStarted() {
  v1::GenerateStreamResponse event;
  *event.mutable_step_started() = StepStartedProto(request(), resolved(), step());
  Push(std::move(event));
}

void StreamCall::Piece(const runtime::Delta& delta) {
  base::MutexLock lock(&mutex_);
  PushDelta(delta);
  if (!paused_ && queue_.size() >= static_cast<size_t>(core().limits().max_buffered_events)) {
    paused_ = true;
    PauseSession();
    WatchReader();
  }
}

void StreamCall::PushDelta(const runtime::Delta& delta) {
  v1::GenerateStreamResponse event;
  v1::Delta& proto = *event.mutable_delta();
  proto.set_text(delta.text);
  proto.set_token_offset(delta.token_offset);
  proto.set_step(step());
  for (const runtime::GeneratedToken& token : delta.tokens) {
    if (request().wants_token_ids) proto.add_token_ids(token.id);
    if (request().sampling.top_logprobs >= 0) {
      *proto.add_logprobs() = ToProto(token, core().backbone());
    }
  }
  Push(std::move(event));
}

void StreamCall::Ended(const absl::StatusOr<runtime::Finished>& result) {
  base::MutexLock lock(&mutex_);
  if (result.ok()) {
    v1::GenerateStreamResponse event;
    *event.mutable_finished() =
        FinishedProto(*result, request(), resolved(), absl::Now() - arrival());
    Push(std::move(event));
  } else if (base::ReasonOf(result.status()) == base::Reason::kSlowReader) {
    queue_.clear();
  }
  end_ = result.status();
  Pump();
  WatchReader();
}

void StreamCall::Push(v1::GenerateStreamResponse event) {
  if (broken_) return;
  queue_.push_back(std::move(event));
  Pump();
}

void StreamCall::Pump() {
  if (writing_ || finishing_) return;
  progress_at_ = absl::Now();
  if (!queue_.empty()) {
    writing_ = true;
    writing_event_ = std::move(queue_.front());
    queue_.pop_front();
    StartWrite(&writing_event_);
  } else if (end_.has_value()) {
    finishing_ = true;
    rpc::AddErrorTrailers(*end_, context_);
    Finish(rpc::ToGrpcStatus(*end_));
  }
}

void StreamCall::OnWriteDone(bool ok) {
  base::MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok) {
    broken_ = true;
    queue_.clear();
    Cancel(CancelReason(info()));
  } else if (paused_ &&
             queue_.size() <= static_cast<size_t>(core().limits().max_buffered_events) / 2) {
    paused_ = false;
    ResumeSession();
  }
  Pump();
}

void StreamCall::OnCancel() {
  Cancel(CancelReason(info()));
  base::MutexLock lock(&mutex_);
  broken_ = true;
  queue_.clear();
  Pump();
}

void StreamCall::OnDone() {
  deadline_timer_.Stop();
  std::move(self_).reset();
}

void StreamCall::CancelAtLimit() {
  Cancel(base::MakeError(base::Reason::kDeadlineExceeded,
                         "the request took as long as the server allows"));
}

void StreamCall::WatchReader() {
  if (watching_ || finishing_ || !writing_ || !(paused_ || end_.has_value())) return;
  watching_ = true;
  reader_timer_.Set(progress_at_ + core().limits().slow_reader_timeout, self_,
                    &StreamCall::CheckReader);
}

void StreamCall::CheckReader() {
  base::MutexLock lock(&mutex_);
  watching_ = false;
  if (finishing_ || !writing_ || !(paused_ || end_.has_value())) return;
  if (absl::Now() >= progress_at_ + core().limits().slow_reader_timeout) {
    progress_at_ = absl::Now();
    if (end_.has_value()) {
      context_.TryCancel();  // even the status was not read
    } else {
      Cancel(base::MakeError(base::Reason::kSlowReader,
                             "the client did not read its stream for too long"));
    }
  }
  WatchReader();
}

}  // namespace ccoe::router
