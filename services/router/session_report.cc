#include <algorithm>
#include <optional>

#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/telemetry/log.h"
#include "services/router/session_call.h"

// What a request leaves in the metrics and in the log.
namespace ccoe::router {
namespace {

// As long as a scrape or an autoscaler may take to look again.
constexpr absl::Duration kDemandTime = absl::Seconds(30);

// Of a request that was admitted.
std::optional<telemetry::CancelCause> CancelCauseOf(base::Reason reason) {
  switch (reason) {
    case base::Reason::kCancelled:
      return telemetry::CancelCause::kClient;
    case base::Reason::kDeadlineExceeded:
      return telemetry::CancelCause::kDeadline;
    case base::Reason::kSlowReader:
      return telemetry::CancelCause::kSlowReader;
    case base::Reason::kDraining:
      return telemetry::CancelCause::kDrain;
    default:
      return std::nullopt;
  }
}

telemetry::ExpertLabels LabelsOf(const RouteDecision& decision) {
  return {decision.domain, decision.expert.name, decision.expert.version};
}

}  // namespace

void SessionCall::LeaveQueue() {
  if (queued_ == nullptr) return;
  queued_.reset();
  core_.metrics().ObserveQueue(absl::Now() - arrival_);
}

void SessionCall::EndPause() {
  if (!paused_since_.has_value()) return;
  core_.metrics().AddStall(telemetry::Stream::kClient, absl::Now() - *paused_since_);
  paused_since_.reset();
}

// The client gets a token.
void SessionCall::ObserveToken() {
  const absl::Time now = absl::Now();
  if (ttft_ == absl::ZeroDuration()) {
    ttft_ = now - arrival_;
    core_.metrics().ObserveTimeToFirstToken(LabelsOf(Answering()), ttft_);
  } else if (last_token_at_ != absl::InfinitePast()) {
    core_.metrics().ObserveInterTokenLatency(LabelsOf(Running()), now - last_token_at_);
  }
  last_token_at_ = now;
}

void SessionCall::CountGenerated(const runtime::Delta& delta) {
  const auto tokens = static_cast<int64_t>(delta.tokens.size());
  tokens_ += tokens;
  // The first one of a step stands behind its prompt, which is paid for with it: a client that
  // goes away after that has had it.
  Charge(tokens + (delta.token_offset == 0 ? delta.tokens.front().position : 0));
  core_.metrics().AddTokens(LabelsOf(Running()), telemetry::TokenKind::kGenerated, tokens);
}

// At the end of a step: its prompt, if no token came.
void SessionCall::ChargePromptAlone(const runtime::Usage& usage) {
  if (usage.completion_tokens == 0) Charge(usage.prompt_tokens);
}

void SessionCall::Charge(int64_t tokens) {
  if (*info_.caller != nullptr) (*info_.caller)->Charge(tokens, absl::Now());
}

// Whose tokens come.
const RouteDecision& SessionCall::Running() const {
  return resolved_.steps.empty() ? resolved_.decision : resolved_.steps[order_[step_]].decision;
}

// Who answers, or was to when the request ended.
const RouteDecision& SessionCall::Answering() const {
  return chosen_.has_value() ? resolved_.decision : Running();
}

void SessionCall::CountFailure(const absl::Status& status) {
  const base::Reason reason = base::ReasonOf(status);
  const auto cause = ticket_ == nullptr ? std::nullopt : CancelCauseOf(reason);
  if (cause.has_value()) {
    core_.metrics().CountCancellation(*cause);
  } else if (!started_) {
    core_.metrics().CountRejection(reason);
    if (reason == base::Reason::kExpertUnavailable) {
      core_.metrics().HoldInQueue(Answering().domain, kDemandTime);
    }
  }
}

void SessionCall::CountUsage(const runtime::Usage& total) {
  const auto add = [this](const RouteDecision& decision, const runtime::Usage& usage) {
    const telemetry::ExpertLabels labels = LabelsOf(decision);
    core_.metrics().AddTokens(labels, telemetry::TokenKind::kPrompt, usage.prompt_tokens);
    core_.metrics().AddTokens(labels, telemetry::TokenKind::kCached, usage.cached_tokens);
  };
  if (resolved_.steps.empty()) return add(resolved_.decision, total);
  for (const ResolvedStep& step : resolved_.steps) add(step.decision, step.finished.usage);
}

void SessionCall::Report(const absl::StatusOr<runtime::Finished>& result) {
  const absl::Status& status = result.status();
  const RouteDecision& answering = result.ok() ? resolved_.decision : Answering();
  const absl::Duration total = absl::Now() - arrival_;
  core_.metrics().ObserveRequest(LabelsOf(answering), static_cast<int>(status.code()), total);
  if (!status.ok()) {
    CountFailure(status);
    telemetry::LogWarning("request_failed", {{"request_id", info_.request_id},
                                             {"method", info_.method},
                                             {"domain", answering.domain},
                                             {"expert", answering.expert.name},
                                             {"code", absl::StatusCodeToString(status.code())},
                                             {"reason", base::EntryOf(base::ReasonOf(status)).name},
                                             {"completion_tokens", tokens_},
                                             {"total_ms", total}});
    return;
  }
  CountUsage(result->usage);
  telemetry::LogInfo("request_finished", {{"request_id", info_.request_id},
                                          {"method", info_.method},
                                          {"domain", answering.domain},
                                          {"expert", answering.expert.name},
                                          {"version", answering.expert.version},
                                          {"steps", std::max<size_t>(1, order_.size())},
                                          {"prompt_tokens", result->usage.prompt_tokens},
                                          {"completion_tokens", result->usage.completion_tokens},
                                          {"queue_ms", result->timings.queue},
                                          {"ttft_ms", ttft_},
                                          {"total_ms", total}});
}

}  // namespace ccoe::router
