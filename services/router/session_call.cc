#include "services/router/session_call.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/telemetry/log.h"
#include "services/router/catalog.h"

namespace ccoe::router {
namespace {

void CountCancellation(telemetry::Metrics& metrics, const absl::Status& status) {
  switch (base::ReasonOf(status)) {
    case base::Reason::kCancelled:
      return metrics.CountCancellation(telemetry::CancelCause::kClient);
    case base::Reason::kDeadlineExceeded:
      return metrics.CountCancellation(telemetry::CancelCause::kDeadline);
    case base::Reason::kSlowReader:
      return metrics.CountCancellation(telemetry::CancelCause::kSlowReader);
    case base::Reason::kDraining:
      return metrics.CountCancellation(telemetry::CancelCause::kDrain);
    default:
      return;
  }
}

}  // namespace

SessionCall::SessionCall(RouterCore* core, CallInfo info)
    : core_(*core), info_(std::move(info)), arrival_(absl::Now()) {}

absl::Time SessionCall::deadline() const {
  return std::min(info_.deadline, arrival_ + core_.limits().max_request_time);
}

void SessionCall::Begin(absl::StatusOr<ParsedRequest> parsed) {
  if (!parsed.ok()) return End(parsed.status());
  absl::StatusOr<std::unique_ptr<Admission::Ticket>> ticket = core_.admission().Enter();
  if (!ticket.ok()) return End(ticket.status());
  ticket_ = *std::move(ticket);
  core_.Join(this);
  request_ = *std::move(parsed);
  request_.routing.draw = DrawOf(info_.request_id);
  core_.Resolve(request_, deadline(),
                [self = shared_from_this()](absl::StatusOr<Resolved> resolved) {
                  self->Open(std::move(resolved));
                });
}

SessionRequest SessionCall::MakeSessionRequest() const {
  SessionRequest session;
  session.request_id = info_.request_id;
  session.traceparent = info_.traceparent;
  session.input = {request_.input.prompt, request_.continuation, core_.limits().max_prompt_tokens};
  session.expert = resolved_.decision.expert;
  if (resolved_.undecided) session.routing_layer = resolved_.gate->rows().routing_layer();
  session.sampling = request_.sampling;
  session.stop = request_.stop;
  session.queue_deadline = std::min(arrival_ + request_.max_queue_time, deadline());
  return session;
}

void SessionCall::Open(absl::StatusOr<Resolved> resolved) {
  if (!resolved.ok()) return End(resolved.status());
  resolved_ = *std::move(resolved);
  std::optional<absl::Status> cancelled;
  {
    base::MutexLock lock(&mutex_);
    cancelled = cancelled_;
  }
  if (cancelled.has_value()) return End(*cancelled);
  const absl::StatusOr<runtime::SessionId> session =
      core_.backbone().Open(MakeSessionRequest(), this);
  if (!session.ok()) return End(session.status());
  // What was asked for meanwhile had no session to go to.
  base::MutexLock lock(&mutex_);
  session_ = *session;
  if (cancelled_.has_value()) core_.backbone().Cancel(*session_, *cancelled_);
  if (decided_.has_value()) core_.backbone().Decide(*session_, *decided_);
  if (paused_) core_.backbone().Pause(*session_);
}

void SessionCall::Cancel(const absl::Status& why) {
  base::MutexLock lock(&mutex_);
  if (cancelled_.has_value()) return;
  cancelled_ = why;
  if (session_.has_value()) core_.backbone().Cancel(*session_, why);
}

void SessionCall::PauseSession() {
  base::MutexLock lock(&mutex_);
  paused_ = true;
  if (session_.has_value()) core_.backbone().Pause(*session_);
}

void SessionCall::ResumeSession() {
  base::MutexLock lock(&mutex_);
  paused_ = false;
  if (session_.has_value()) core_.backbone().Resume(*session_);
}

void SessionCall::OnRouteState(absl::Span<const float> pooled) {
  if (!resolved_.undecided) return;
  const absl::Status status = core_.Settle(request_.routing, pooled, &resolved_);
  if (!status.ok()) return Cancel(status);
  base::MutexLock lock(&mutex_);
  decided_ = resolved_.decision.expert;
  if (session_.has_value()) core_.backbone().Decide(*session_, *decided_);
}

void SessionCall::OnAdmitted() {
  if (resolved_.undecided) return Cancel(absl::InternalError("admitted without a decision"));
  Admitted();
}

void SessionCall::OnDelta(const runtime::Delta& delta) {
  if (!delta.tokens.empty()) {
    const absl::Time now = absl::Now();
    if (tokens_ == 0) {
      ttft_ = now - arrival_;
      core_.metrics().ObserveTimeToFirstToken(ttft_);
    } else {
      core_.metrics().ObserveInterTokenLatency(now - last_token_at_);
    }
    last_token_at_ = now;
    tokens_ += static_cast<int64_t>(delta.tokens.size());
    core_.metrics().AddGeneratedTokens(static_cast<int64_t>(delta.tokens.size()));
  }
  Piece(delta);
}

void SessionCall::OnFinished(const runtime::Finished& finished) { End(finished); }
void SessionCall::OnFailed(const absl::Status& status) { End(status); }

void SessionCall::End(const absl::StatusOr<runtime::Finished>& result) {
  const std::shared_ptr<SessionCall> self = shared_from_this();  // Ended may drop the last other
  Report(result);
  if (ticket_ != nullptr) {
    core_.Leave(this);
    ticket_.reset();
  }
  Ended(result);
}

void SessionCall::Report(const absl::StatusOr<runtime::Finished>& result) {
  const absl::Status& status = result.status();
  core_.metrics().CountRequest(resolved_.decision.domain, static_cast<int>(status.code()));
  const absl::Duration total = absl::Now() - arrival_;
  if (!status.ok()) {
    CountCancellation(core_.metrics(), status);
    telemetry::LogWarning("request_failed", {{"request_id", info_.request_id},
                                             {"method", info_.method},
                                             {"domain", resolved_.decision.domain},
                                             {"expert", resolved_.decision.expert.name},
                                             {"code", absl::StatusCodeToString(status.code())},
                                             {"reason", base::EntryOf(base::ReasonOf(status)).name},
                                             {"completion_tokens", tokens_},
                                             {"total_ms", total}});
    return;
  }
  core_.metrics().AddPromptTokens(result->usage.prompt_tokens);
  telemetry::LogInfo("request_finished", {{"request_id", info_.request_id},
                                          {"method", info_.method},
                                          {"domain", resolved_.decision.domain},
                                          {"expert", resolved_.decision.expert.name},
                                          {"version", resolved_.decision.expert.version},
                                          {"prompt_tokens", result->usage.prompt_tokens},
                                          {"completion_tokens", result->usage.completion_tokens},
                                          {"queue_ms", result->timings.queue},
                                          {"ttft_ms", ttft_},
                                          {"total_ms", total}});
}

}  // namespace ccoe::router
