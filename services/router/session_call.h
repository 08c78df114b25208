#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/runtime/session.h"
#include "services/router/call_timer.h"
#include "services/router/caller.h"
#include "services/router/router_core.h"

namespace ccoe::router {

struct CallInfo {
  const char* method = "";  // for the logs
  std::string request_id;
  std::string traceparent;
  absl::Time deadline = absl::InfiniteFuture();  // the client's
  // Whose it is, null where no key is asked for; or why it is refused.
  absl::StatusOr<std::shared_ptr<Caller>> caller = std::shared_ptr<Caller>();
};

// What a session has of its call, which was not refused.
SessionRequest SessionOf(const CallInfo& info);

// One request from its arrival to its end, without the transport: admission, target, session,
// metrics, log line. A transport derives from it, is held by a shared_ptr until it has seen Ended,
// and hears of what happens through four functions, called one at a time, on any thread; Ended
// comes exactly once, last. The other functions are thread-safe. Of a request that several experts
// answer it hears once the choice is made, and then of the chosen one alone.
class SessionCall : public runtime::SessionListener,
                    public std::enable_shared_from_this<SessionCall> {
 public:
  SessionCall(RouterCore* core, CallInfo info);

  // Starts the request, or ends it with the status of one that is not valid.
  void Begin(absl::StatusOr<ParsedRequest> parsed);
  // Ends the request with `why` at the next step. Nothing when it has ended.
  void Cancel(const absl::Status& why);
  void PauseSession();
  void ResumeSession();

 protected:
  // Blocks are reserved and the expert is known: resolved() is whole from here on.
  virtual void Admitted() = 0;
  // Of a plan: step() has ended, which resolved().steps[step()] tells of; a further one begins.
  virtual void StepEnded() {}
  virtual void StepBegan() {}
  // The pieces together are the answer, what was held back until its end included.
  virtual void Piece(const runtime::Delta& delta) = 0;
  virtual void Ended(const absl::StatusOr<runtime::Finished>& result) = 0;

  RouterCore& core() { return core_; }
  const CallInfo& info() const { return info_; }
  absl::Time arrival() const { return arrival_; }
  // The client's deadline, or the server's limit where that is earlier.
  absl::Time deadline() const;
  const ParsedRequest& request() const { return request_; }
  const Resolved& resolved() const { return resolved_; }
  // That runs, of a plan; 0 for a request without one.
  int step() const { return request_.plan.has_value() ? static_cast<int>(step_) : 0; }

 private:
  void OnRouteState(absl::Span<const float> pooled) final;
  void OnAdmitted() final;
  void OnDelta(const runtime::Delta& delta) final;
  void OnStepFinished(const runtime::Finished& finished) final;
  void OnFinished(const runtime::Finished& finished) final;
  void OnFailed(const absl::Status& status) final;

  void ResolveSteps();
  void OpenSteps();
  void Open(absl::StatusOr<Resolved> resolved);
  SessionRequest NewSession() const;
  SessionRequest MakeSessionRequest() const;
  // Adds the steps of a plan, or of several experts, to their session.
  void AddSteps(SessionRequest* session) const;
  bool chooses() const { return !request_.experts.empty(); }
  void LeaveQueue();
  void EndPause() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ObserveToken();
  void CountGenerated(const runtime::Delta& delta);
  // Has the caller pay for tokens.
  void Charge(int64_t tokens);
  void ChargePromptAlone(const runtime::Usage& usage);
  void CloseStep(const runtime::Finished& finished);
  // Keeps the answer that has ended if its expert finds it likelier than those before.
  void KeepIfBest(ResolvedStep* step);
  void PassText(const std::string& text);
  void Choose();
  const RouteDecision& Running() const;
  const RouteDecision& Answering() const;
  // Bookkeeping and Ended.
  void End(const absl::StatusOr<runtime::Finished>& result);
  void CountFailure(const absl::Status& status);
  void CountUsage(const runtime::Usage& total);
  void Report(const absl::StatusOr<runtime::Finished>& result);

  RouterCore& core_;
  const CallInfo info_;
  const absl::Time arrival_;
  ParsedRequest request_;
  Resolved resolved_;
  std::unique_ptr<Admission::Ticket> ticket_;
  std::shared_ptr<const void> queued_;  // while it waits to start
  bool started_ = false;
  absl::Time last_token_at_ = absl::InfinitePast();
  absl::Duration ttft_ = absl::ZeroDuration();
  int64_t tokens_ = 0;
  absl::StatusOr<Resolved> steps_resolved_ = Resolved();  // until they are opened
  CallTimer open_timer_;
  std::vector<size_t> order_;   // in which resolved_.steps run
  size_t step_ = 0;             // that runs, of order_
  int step_offset_ = 0;         // tokens of the steps before
  runtime::Finished outcome_;   // of the whole request, as its steps end
  runtime::Delta answer_;       // of several experts: of the one that answers, the best so far,
  runtime::Delta best_answer_;  // and whose that is
  std::optional<size_t> chosen_;

  base::Mutex mutex_;
  std::optional<runtime::SessionId> session_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::optional<runtime::ExpertKey> decided_ ABSL_GUARDED_BY(mutex_);  // by the prompt's state
  std::optional<absl::Time> paused_since_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const absl::Status&)> cancel_resolution_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::router
