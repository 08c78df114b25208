#include "services/router/session_call.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "services/router/catalog.h"
#include "services/router/plan_request.h"

namespace ccoe::router {

SessionRequest SessionOf(const CallInfo& info) {
  SessionRequest session;
  session.request_id = info.request_id;
  session.traceparent = info.traceparent;
  if (const std::shared_ptr<Caller>& caller = *info.caller; caller != nullptr) {
    session.flow = caller->flow();
    session.cache_salt = caller->cache_salt();
  }
  return session;
}

SessionCall::SessionCall(RouterCore* core, CallInfo info)
    : core_(*core), info_(std::move(info)), arrival_(absl::Now()) {}

absl::Time SessionCall::deadline() const {
  return std::min(info_.deadline, arrival_ + core_.limits().max_request_time);
}

void SessionCall::Begin(absl::StatusOr<ParsedRequest> parsed) {
  if (!info_.caller.ok()) return End(info_.caller.status());
  if (!parsed.ok()) return End(parsed.status());
  absl::StatusOr<std::unique_ptr<Admission::Ticket>> ticket =
      core_.admission().Enter(*info_.caller);
  if (!ticket.ok()) return End(ticket.status());
  ticket_ = *std::move(ticket);
  queued_ = core_.metrics().EnterQueue("");
  core_.Join(this);
  request_ = *std::move(parsed);
  request_.routing.draw = DrawOf(info_.request_id);
  if (request_.plan.has_value() || chooses()) return ResolveSteps();
  core_.Resolve(request_, deadline(), [self = shared_from_this()](absl::StatusOr<Resolved> result) {
    self->Open(std::move(result));
  });
}

void SessionCall::ResolveSteps() {
  // The last part may come from the engine's thread, which has no time for what follows.
  const auto done = [self = shared_from_this()](absl::StatusOr<Resolved> result) {
    self->steps_resolved_ = std::move(result);
    self->open_timer_.Set(absl::Now(), self, &SessionCall::OpenSteps);
  };
  const auto cancel = core_.ResolveSteps(request_, NewSession(), deadline(), done);
  base::MutexLock lock(&mutex_);
  cancel_resolution_ = cancel;
  if (cancelled_.has_value()) cancel(*cancelled_);
}

void SessionCall::OpenSteps() { Open(std::move(steps_resolved_)); }

// Whose it is, and how long it may wait.
SessionRequest SessionCall::NewSession() const {
  SessionRequest session = SessionOf(info_);
  session.queue_deadline = std::min(arrival_ + request_.max_queue_time, deadline());
  return session;
}

SessionRequest SessionCall::MakeSessionRequest() const {
  SessionRequest session = NewSession();
  session.input.prompt = request_.input.prompt;
  session.input.continuation = request_.continuation;
  session.input.max_prompt_tokens = core_.limits().max_prompt_tokens;
  session.expert = resolved_.decision.expert;
  if (resolved_.undecided) session.routing_layer = resolved_.gate->rows().routing_layer();
  session.sampling = request_.sampling;
  session.stop = request_.stop;
  if (!resolved_.steps.empty()) AddSteps(&session);
  return session;
}

void SessionCall::AddSteps(SessionRequest* session) const {
  const ResolvedStep& first = resolved_.steps[order_[0]];
  session->expert = first.decision.expert;
  session->stop.max_tokens = first.max_tokens;
  if (chooses()) session->sampling.top_logprobs = std::max(0, session->sampling.top_logprobs);
  if (request_.plan.has_value()) {
    auto& messages = std::get<std::vector<model::Message>>(session->input.prompt);
    const bool users = !messages.empty() && messages.back().role == "user";
    if (!users) {
      messages.push_back({"user", first.instruction});
    } else if (request_.plan->steps.empty()) {
      messages.back().content = first.instruction;  // the others follow
    } else {
      absl::StrAppend(&messages.back().content, "\n\n", first.instruction);
    }
  }
  for (size_t i = 1; i < order_.size(); ++i) {
    const ResolvedStep& step = resolved_.steps[order_[i]];
    runtime::NextTurn& turn = session->input.next_turns.emplace_back();
    turn.expert = step.decision.expert;
    if (!chooses()) turn.message = step.instruction;
    turn.sampling = session->sampling;
    turn.stop = session->stop;
    turn.stop.max_tokens = step.max_tokens;
  }
}

void SessionCall::Open(absl::StatusOr<Resolved> resolved) {
  if (!resolved.ok()) return End(resolved.status());
  resolved_ = *std::move(resolved);
  if (chooses()) {
    order_ = AuctionOrder(resolved_.steps);
  } else {
    order_.resize(resolved_.steps.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
  }
  std::optional<absl::Status> cancelled;
  {
    base::MutexLock lock(&mutex_);
    cancelled = cancelled_;
  }
  if (cancelled.has_value()) return End(*cancelled);
  queued_ = core_.metrics().EnterQueue(Running().domain);
  const absl::StatusOr<runtime::SessionId> session =
      core_.backbone().Open(MakeSessionRequest(), this);
  if (!session.ok()) return End(session.status());
  // What was asked for meanwhile had no session to go to.
  base::MutexLock lock(&mutex_);
  session_ = *session;
  if (cancelled_.has_value()) core_.backbone().Cancel(*session_, *cancelled_);
  if (decided_.has_value()) core_.backbone().Decide(*session_, *decided_);
  if (paused_since_.has_value()) core_.backbone().Pause(*session_);
}

void SessionCall::Cancel(const absl::Status& why) {
  base::MutexLock lock(&mutex_);
  if (cancelled_.has_value()) return;
  cancelled_ = why;
  if (session_.has_value()) core_.backbone().Cancel(*session_, why);
  if (cancel_resolution_ != nullptr) cancel_resolution_(why);
}

void SessionCall::PauseSession() {
  base::MutexLock lock(&mutex_);
  if (!paused_since_.has_value()) paused_since_ = absl::Now();
  if (session_.has_value()) core_.backbone().Pause(*session_);
}

void SessionCall::ResumeSession() {
  base::MutexLock lock(&mutex_);
  EndPause();
  if (session_.has_value()) core_.backbone().Resume(*session_);
}

void SessionCall::OnRouteState(absl::Span<const float> pooled) {
  if (!resolved_.undecided) return;
  const absl::Status status = core_.Settle(request_.routing, pooled, &resolved_);
  if (!status.ok()) return Cancel(status);
  queued_ = core_.metrics().EnterQueue(resolved_.decision.domain);
  base::MutexLock lock(&mutex_);
  decided_ = resolved_.decision.expert;
  if (session_.has_value()) core_.backbone().Decide(*session_, *decided_);
}

void SessionCall::OnAdmitted() {
  if (resolved_.undecided) return Cancel(absl::InternalError("admitted without a decision"));
  LeaveQueue();
  started_ = true;
  if (!chooses()) Admitted();
}

void SessionCall::OnDelta(const runtime::Delta& delta) {
  if (!delta.tokens.empty()) {
    if (!chooses()) ObserveToken();
    CountGenerated(delta);
  }
  if (chooses()) {
    answer_.text += delta.text;
    answer_.tokens.insert(answer_.tokens.end(), delta.tokens.begin(), delta.tokens.end());
  } else if (resolved_.steps.empty()) {
    Piece(delta);
  } else {
    resolved_.steps[step_].text += delta.text;
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
  ResolvedStep& step = resolved_.steps[order_[step_]];
  step.finished = finished;
  ChargePromptAlone(finished.usage);
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
  if (chooses()) {
    KeepIfBest(&step);
    return;
  }
  PassText(finished.text);
  step.text += finished.text;
  StepEnded();
}

void SessionCall::KeepIfBest(ResolvedStep* step) {
  double sum = 0;
  for (const runtime::GeneratedToken& token : answer_.tokens) sum += token.logprob;
  step->mean_logprob = sum / std::max<size_t>(1, answer_.tokens.size());
  answer_.text += step->finished.text;
  const bool best =
      !chosen_.has_value() || step->mean_logprob > resolved_.steps[*chosen_].mean_logprob;
  if (best) {
    chosen_ = order_[step_];
    best_answer_ = std::move(answer_);
  }
  answer_ = {};
}

void SessionCall::OnStepFinished(const runtime::Finished& finished) {
  if (step_ + 1 >= resolved_.steps.size()) {
    return Cancel(absl::InternalError("a step more than was asked for"));
  }
  const runtime::ExpertKey before = Running().expert;
  CloseStep(finished);
  ++step_;
  if (Running().expert != before) core_.metrics().CountExpertSwitch();
  if (chooses()) return;
  last_token_at_ = absl::InfinitePast();
  StepBegan();
  PassText("\n\n");
}

// Tells the transport of the chosen answer, in pieces of bounded size.
void SessionCall::Choose() {
  constexpr size_t kPieceTokens = 64;
  const ResolvedStep& chosen = resolved_.steps[*chosen_];
  resolved_.decision = chosen.decision;
  outcome_.reason = chosen.finished.reason;
  outcome_.matched_stop = chosen.finished.matched_stop;
  ObserveToken();
  Admitted();
  runtime::Delta piece;
  piece.text = std::move(best_answer_.text);
  for (runtime::GeneratedToken& token : best_answer_.tokens) {
    piece.tokens.push_back(std::move(token));
    if (piece.tokens.size() < kPieceTokens) continue;
    Piece(piece);
    piece.token_offset += static_cast<int>(piece.tokens.size());
    piece.text.clear();
    piece.tokens.clear();
  }
  if (!piece.tokens.empty() || !piece.text.empty()) Piece(piece);
}

void SessionCall::OnFinished(const runtime::Finished& finished) {
  if (resolved_.steps.empty()) {
    ChargePromptAlone(finished.usage);
    step_offset_ = finished.usage.completion_tokens;
    PassText(finished.text);
    return End(finished);
  }
  if (step_ + 1 < resolved_.steps.size()) {
    return OnFailed(base::MakeError(base::Reason::kUnimplemented,
                                    "the backbone does not know of further steps; update it"));
  }
  CloseStep(finished);
  if (chooses()) Choose();
  End(outcome_);
}

void SessionCall::OnFailed(const absl::Status& status) {
  if (resolved_.steps.empty()) return End(status);
  End(chooses() ? AtExpert(status, Answering().expert) : AtStep(status, step_));
}

void SessionCall::End(const absl::StatusOr<runtime::Finished>& result) {
  const std::shared_ptr<SessionCall> self = shared_from_this();  // Ended may drop the last other
  LeaveQueue();
  {
    base::MutexLock lock(&mutex_);
    EndPause();
  }
  Report(result);
  if (ticket_ != nullptr) {
    core_.Leave(this);
    ticket_.reset();
  }
  Ended(result);
}

}  // namespace ccoe::router
