#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "ccoe/internal/v1/session.grpc.pb.h"
#include "common/base/mutex.h"
#include "common/runtime/session.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// One session at a backbone process: a stream of BackboneService.Session that hands its messages to
// a listener. Keeps itself alive until the stream is done; the owner holds it until `on_done`.
// Thread-safe.
class RemoteSession final
    : public grpc::ClientBidiReactor<internal::v1::SessionRequest, internal::v1::SessionResponse>,
      public std::enable_shared_from_this<RemoteSession> {
 public:
  // `on_done` is called after the listener's last call and may destroy this.
  RemoteSession(runtime::SessionListener& listener, std::function<void()> on_done)
      : listener_(listener), on_done_(std::move(on_done)) {}

  void Start(internal::v1::BackboneService::StubInterface& stub, const SessionRequest& request);
  void Decide(const runtime::ExpertKey& expert);
  void Cancel(const absl::Status& why);
  void Pause();
  void Resume();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  // Hands response_ to the listener.
  absl::Status Deliver();
  // UNIMPLEMENTED where scores lack what was asked for.
  absl::Status CheckScores(const runtime::Finished& finished) const;
  absl::Status FinalStatus(const grpc::Status& status);
  void Send(internal::v1::SessionRequest message);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Close();

  runtime::SessionListener& listener_;
  std::function<void()> on_done_;
  grpc::ClientContext context_;
  std::shared_ptr<RemoteSession> self_;
  internal::v1::SessionResponse response_;
  bool wants_top_ = false;  // of scored tokens the likeliest ones, too
  bool undecided_ = false;  // its state is to come; set by Start, then the reactions' alone, as is:
  bool heard_ = false;      // the backbone has answered
  bool finished_ = false;   // OnFinished was called

  base::Mutex mutex_;
  std::deque<internal::v1::SessionRequest> queue_ ABSL_GUARDED_BY(mutex_);
  internal::v1::SessionRequest in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status cancelled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::router
