#include "services/router/session_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/telemetry/log.h"

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
  const auto resolved = [self = shared_from_this()](absl::StatusOr<Resolved> result) {
    self->Open(std::move(result));
  };
  if (request_.plan.has_value() || chooses()) {
    SessionRequest session;
    session.request_id = info_.request_id;
    session.traceparent = info_.traceparent;
    return core_.ResolveSteps(request_, session, deadline(), resolved);
  }
  core_.Resolve(request_, deadline(), resolved);
}

SessionRequest SessionCall::MakeSessionRequest() const {
  SessionRequest session;
  session.request_id = info_.request_id;
  session.traceparent = info_.traceparent;
  session.input.prompt = request_.input.prompt;
  session.input.continuation = request_.continuation;
  session.input.max_prompt_tokens = core_.limits().max_prompt_tokens;
  session.expert = resolved_.decision.expert;
  if (resolved_.undecided) session.routing_layer = resolved_.gate->rows().routing_layer();
  session.sampling = request_.sampling;
  session.stop = request_.stop;
  session.queue_deadline = std::min(arrival_ + request_.max_queue_time, deadline());
  if (!resolved_.steps.empty()) AddSteps(&session);
  return session;
}

void SessionCall::AddSteps(SessionRequest* session) const {
  const ResolvedStep& first = resolved_.steps[0];
  session->stop.max_tokens = first.max_tokens;
  if (chooses()) session->sampling.top_logprobs = std::max(0, session->sampling.top_logprobs);
  if (request_.plan.has_value()) {
    auto& messages = std::get<std::vector<model::Message>>(session->input.prompt);
    const bool whole = !request_.plan->steps.empty();
    if (messages.empty()) {
      messages.push_back({"user", first.instruction});
    } else if (whole) {
      absl::StrAppend(&messages.back().content, "\n\n", first.instruction);
    } else {
      messages.back().content = first.instruction;  // the others follow
    }
  }
  for (size_t i = 1; i < resolved_.steps.size(); ++i) {
    runtime::NextTurn& turn = session->input.next_turns.emplace_back();
    turn.expert = resolved_.steps[i].decision.expert;
    if (!chooses()) turn.message = resolved_.steps[i].instruction;
    turn.sampling = session->sampling;
    turn.stop = session->stop;
    turn.stop.max_tokens = resolved_.steps[i].max_tokens;
  }
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
  if (chooses()) {
    answers_.emplace_back();
  } else {
    Admitted();
  }
}

// The client gets a token.
void SessionCall::ObserveToken() {
  const absl::Time now = absl::Now();
  if (last_token_at_ == absl::InfinitePast()) {
    ttft_ = now - arrival_;
    core_.metrics().ObserveTimeToFirstToken(ttft_);
  } else {
    core_.metrics().ObserveInterTokenLatency(now - last_token_at_);
  }
  last_token_at_ = now;
}

void SessionCall::OnDelta(const runtime::Delta& delta) {
  if (!delta.tokens.empty()) {
    if (!chooses()) ObserveToken();
    tokens_ += static_cast<int64_t>(delta.tokens.size());
    core_.metrics().AddGeneratedTokens(static_cast<int64_t>(delta.tokens.size()));
  }
  if (chooses()) {
    answers_.back().push_back(delta);
  } else if (step_offset_ == 0) {
    Piece(delta);
  } else {
    runtime::Delta counted = delta;
    counted.token_offset += step_offset_;
    Piece(counted);
  }
}

// Text that comes with no token: what was held back, and what stands between two steps.
void SessionCall::PassText(const std::string& text) {
  if (text.empty()) return;
  runtime::Delta delta;
  delta.text = text;
  delta.token_offset = step_offset_;
  Piece(delta);
}

// A step of several has ended.
void SessionCall::CloseStep(const runtime::Finished& finished) {
  ResolvedStep& step = resolved_.steps[step_];
  step.finished = finished;
  outcome_.reason = finished.reason;
  outcome_.matched_stop = finished.matched_stop;
  outcome_.usage.prompt_tokens += finished.usage.prompt_tokens;
  outcome_.usage.cached_tokens += finished.usage.cached_tokens;
  outcome_.usage.completion_tokens += finished.usage.completion_tokens;
  if (step_ == 0) {
    outcome_.timings = finished.timings;
  } else {  // from the first token on
    outcome_.timings.decode +=
        finished.timings.queue + finished.timings.prefill + finished.timings.decode;
  }
  step_offset_ += finished.usage.completion_tokens;
  if (!chooses()) return;
  double sum = 0;
  for (const runtime::Delta& delta : answers_.back()) {
    for (const runtime::GeneratedToken& token : delta.tokens) sum += token.logprob;
  }
  step.mean_logprob = sum / std::max(1, finished.usage.completion_tokens);
}

void SessionCall::OnStepFinished(const runtime::Finished& finished) {
  if (step_ + 1 >= static_cast<int>(resolved_.steps.size())) {
    return Cancel(absl::InternalError("a step more than was asked for"));
  }
  CloseStep(finished);
  if (chooses()) {
    answers_.emplace_back();
    ++step_;
    return;
  }
  PassText(finished.text);
  ++step_;
  StepBegan();
  PassText("\n\n");
}

void SessionCall::Choose() {
  size_t best = 0;
  for (size_t i = 1; i < resolved_.steps.size(); ++i) {
    if (resolved_.steps[i].mean_logprob > resolved_.steps[best].mean_logprob) best = i;
  }
  const ResolvedStep& chosen = resolved_.steps[best];
  resolved_.decision = chosen.decision;
  outcome_.reason = chosen.finished.reason;
  outcome_.matched_stop = chosen.finished.matched_stop;
  outcome_.text = chosen.finished.text;
  ObserveToken();
  Admitted();
  for (const runtime::Delta& delta : answers_[best]) Piece(delta);
}

void SessionCall::OnFinished(const runtime::Finished& finished) {
  if (resolved_.steps.empty()) return End(finished);
  if (step_ + 1 < static_cast<int>(resolved_.steps.size())) {
    return End(absl::InternalError("the backbone does not know of further steps"));
  }
  CloseStep(finished);
  outcome_.text = finished.text;
  if (chooses()) Choose();
  End(outcome_);
}

void SessionCall::OnFailed(const absl::Status& status) {
  End(resolved_.steps.empty() ? status : AtStep(status, step_));
}

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
