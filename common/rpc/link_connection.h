#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <atomic>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/link.grpc.pb.h"
#include "common/base/mutex.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/link_send_queue.h"

namespace ccoe::rpc {

// What a connection tells its owner. All calls but OnDone come before OnDone.
class LinkConnectionEvents {
 public:
  virtual ~LinkConnectionEvents() = default;
  // After the first frame that arrived. An error ends the connection.
  virtual absl::Status OnHandshake(const internal::v1::HelloReply& reply) = 0;
  virtual absl::Status OnFrame(internal::v1::LinkResponse& response) = 0;
  virtual void OnDone(const absl::Status& status) = 0;
};

// One attempt of a backbone to speak with an expert process: a stream from its Hello to its end.
// Keeps itself alive until its end; the owner holds it until OnDone. Thread-safe; never blocks.
class LinkConnection final
    : public grpc::ClientBidiReactor<internal::v1::LinkRequest, internal::v1::LinkResponse>,
      public std::enable_shared_from_this<LinkConnection> {
 public:
  // `events` lives until its OnDone returned, which may destroy this.
  LinkConnection(LinkConnectionEvents& events, absl::Duration handshake_timeout)
      : events_(events), handshake_timeout_(handshake_timeout) {}

  void Start(internal::v1::ExpertService::StubInterface& stub, internal::v1::Hello hello);
  void SendControl(internal::v1::LinkRequest request);
  void SendRows(std::vector<EncodedRows> frames);
  // Ends the stream; `why` is what OnDone tells, unless something else ended it before.
  void End(absl::Status why);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& grpc_status) override;

 private:
  absl::Status Handle();
  // No writes any more.
  void Close();
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  LinkConnectionEvents& events_;
  const absl::Duration handshake_timeout_;
  grpc::ClientContext context_;
  grpc::Alarm alarm_;
  std::shared_ptr<LinkConnection> self_;
  std::atomic<bool> ready_{false};
  internal::v1::LinkResponse response_;

  base::Mutex mutex_;
  LinkSendQueue queue_ ABSL_GUARDED_BY(mutex_);
  internal::v1::LinkRequest in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::rpc
