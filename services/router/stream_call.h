#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <optional>

#include "ccoe/v1/generation_service.pb.h"
#include "services/router/call_timer.h"
#include "services/router/session_call.h"

namespace ccoe::router {

// A GenerateStream call. Events wait in a bounded queue for the client to read them: when it is
// full the session pauses, and goes on when half of it is read; a client that reads nothing for
// Limits.slow_reader_timeout meanwhile is cancelled (SLOW_READER). Nobody else waits.
class StreamCall final : public grpc::ServerWriteReactor<v1::GenerateStreamResponse>,
                         public SessionCall {
 public:
  static grpc::ServerWriteReactor<v1::GenerateStreamResponse>* Start(
      RouterCore* core, grpc::CallbackServerContext* context, const v1::GenerateRequest& request,
      uint64_t fresh_seed);

  StreamCall(RouterCore* core, grpc::CallbackServerContext* context, CallInfo info);

 private:
  void Admitted() override;
  void StepEnded() override;
  void StepBegan() override;
  void Piece(const runtime::Delta& delta) override;
  void Ended(const absl::StatusOr<runtime::Finished>& result) override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void PushStepStarted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PushDelta(const runtime::Delta& delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Push(v1::GenerateStreamResponse event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Writes what comes next, or finishes the call.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Looks for a client that does not read, as long as one is waited for.
  void WatchReader() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckReader();
  void CancelAtLimit();

  grpc::CallbackServerContext& context_;
  std::shared_ptr<StreamCall> self_;  // until OnDone
  CallTimer deadline_timer_;
  CallTimer reader_timer_;

  base::Mutex mutex_;
  std::deque<v1::GenerateStreamResponse> queue_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateStreamResponse writing_event_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // the client is gone
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool watching_ ABSL_GUARDED_BY(mutex_) = false;
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time progress_at_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);  // set by Ended
};

}  // namespace ccoe::router
