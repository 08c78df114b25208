#include "common/rpc/link_connection.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/rpc/status.h"

namespace ccoe::rpc {

using internal::v1::LinkRequest;

void LinkConnection::Start(internal::v1::ExpertService::StubInterface& stub,
                           internal::v1::Hello hello) {
  self_ = shared_from_this();
  stub.async()->Link(&context_, this);
  AddHold();  // the engine's thread writes outside of reactions
  // The alarm keeps its function as long as it lives itself: a shared pointer there would be a
  // cycle.
  alarm_.Set(absl::ToChronoTime(absl::Now() + handshake_timeout_),
             [weak = weak_from_this()](bool expired) {
               if (!expired) return;
               const std::shared_ptr<LinkConnection> self = weak.lock();
               if (self != nullptr && !self->ready_) {
                 self->End(absl::DeadlineExceededError("the expert did not answer the handshake"));
               }
             });
  {
    base::MutexLock lock(&mutex_);
    LinkRequest request;
    *request.mutable_hello() = std::move(hello);
    queue_.PushControl(std::move(request));
    Pump();
  }
  StartRead(&response_);
  StartCall();
}

void LinkConnection::SendControl(LinkRequest request) {
  base::MutexLock lock(&mutex_);
  if (closed_) return;
  queue_.PushControl(std::move(request));
  Pump();
}

void LinkConnection::SendRows(std::vector<EncodedRows> frames) {
  base::MutexLock lock(&mutex_);
  if (closed_) return;
  for (EncodedRows& frame : frames) queue_.PushRows(std::move(frame));
  Pump();
}

void LinkConnection::End(absl::Status why) {
  {
    base::MutexLock lock(&mutex_);
    if (end_status_.ok()) end_status_ = std::move(why);
  }
  context_.TryCancel();
  Close();
}

void LinkConnection::OnReadDone(bool ok) {
  if (!ok) return Close();
  const absl::Status status = Handle();
  if (!status.ok()) return End(status);
  StartRead(&response_);
}

void LinkConnection::OnWriteDone(bool ok) {
  base::MutexLock lock(&mutex_);
  writing_ = false;
  if (ok && !closed_) Pump();
}

void LinkConnection::OnDone(const grpc::Status& grpc_status) {
  alarm_.Cancel();
  absl::Status status;
  {
    base::MutexLock lock(&mutex_);
    status = end_status_.ok() ? FromGrpcStatus(grpc_status) : end_status_;
  }
  if (status.ok()) status = absl::UnavailableError("the expert closed the link");
  LinkConnectionEvents& events = events_;
  self_ = nullptr;  // the owner's is left
  events.OnDone(status);
}

absl::Status LinkConnection::Handle() {
  if (ready_) return events_.OnFrame(response_);
  if (!response_.has_hello()) {
    return absl::InvalidArgumentError("the expert's first frame is no handshake");
  }
  CCOE_RETURN_IF_ERROR(events_.OnHandshake(response_.hello()));
  ready_ = true;
  alarm_.Cancel();
  return absl::OkStatus();
}

void LinkConnection::Close() {
  base::MutexLock lock(&mutex_);
  if (closed_) return;
  closed_ = true;
  queue_.Clear();
  RemoveHold();
}

// Writes under the lock, so that no write starts after Close. gRPC runs no reaction inside.
void LinkConnection::Pump() {
  if (writing_ || !queue_.Pop(&in_flight_)) return;
  writing_ = true;
  StartWrite(&in_flight_);
}

}  // namespace ccoe::rpc
