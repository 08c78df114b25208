#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/session.pb.h"
#include "common/base/mutex.h"
#include "common/model/model.h"
#include "common/runtime/engine.h"

namespace ccoe::backbone {

struct SessionCallOptions {
  runtime::Engine* engine = nullptr;
  const model::Model* model = nullptr;
  int max_context = 0;
  // Between RouteState and Decide.
  absl::Duration decide_timeout = absl::Seconds(10);
  // Responses that wait for the router; then the session pauses, and ends after the timeout. What
  // is not read in this time after a session's end is not waited for.
  size_t max_queued_responses = 64;
  absl::Duration slow_reader_timeout = absl::Seconds(30);
};

// One router's session: turns the messages of its stream into a session of the engine and the
// engine's events into messages. Deletes itself when gRPC, the engine and its timers are done.
class SessionCall final
    : public grpc::ServerBidiReactor<internal::v1::SessionRequest, internal::v1::SessionResponse>,
      public runtime::SessionListener {
 public:
  // `options` outlives the call.
  SessionCall(const SessionCallOptions& options, grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void OnRouteState(absl::Span<const float> pooled) override;
  void OnAdmitted() override;
  void OnDelta(const runtime::Delta& delta) override;
  void OnStepFinished(const runtime::Finished& finished) override;
  void OnFinished(const runtime::Finished& finished) override;
  void OnFailed(const absl::Status& status) override;

 private:
  ~SessionCall() override = default;
  void Unref();
  void LogFinished(const char* event, const runtime::Finished& finished) const;

  absl::Status Handle();
  absl::Status Open(const internal::v1::OpenSession& open);
  absl::Status Decide(const internal::v1::Decide& decide);
  // Hands spec_ to the engine, whose events come from now on.
  absl::Status Begin();
  void TellRouteState(absl::Span<const float> pooled);
  // Ends the stream and the session; what is queued is dropped. The first status wins.
  void Abort(const absl::Status& status);
  void Send(internal::v1::SessionResponse response);
  // Nothing more is queued; what is queued and the status have a time to be read.
  void EndLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchSlowReader() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls `then` after `delay`, unless the alarm is cancelled.
  std::unique_ptr<grpc::Alarm> After(absl::Duration delay, std::function<void()> then);

  const SessionCallOptions& options_;
  std::atomic<int> refs_{1};
  internal::v1::SessionRequest request_;
  std::optional<runtime::SessionSpec> spec_;  // from Open to Begin; the reader's alone
  std::string request_id_;                    // written by Open, before the engine knows the call
  int prompt_tokens_ = 0;                     // as is
  bool opened_ = false;                       // the reader's alone, as is:
  bool decided_ = false;

  base::Mutex mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);  // null once the call is done
  std::deque<internal::v1::SessionResponse> queue_ ABSL_GUARDED_BY(mutex_);
  internal::v1::SessionResponse in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;    // nothing more is queued
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
  std::optional<runtime::SessionId> session_ ABSL_GUARDED_BY(mutex_);
  bool slow_ ABSL_GUARDED_BY(mutex_) = false;  // paused because of the queue
  bool paused_by_router_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_expert_ ABSL_GUARDED_BY(mutex_) = false;  // no decision is waited for any more
  std::unique_ptr<grpc::Alarm> decide_alarm_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> slow_alarm_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> cut_off_alarm_ ABSL_GUARDED_BY(mutex_);  // from the end to OnDone
};

}  // namespace ccoe::backbone
