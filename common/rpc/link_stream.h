#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <deque>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/link.pb.h"
#include "common/base/bounded_queue.h"
#include "common/base/mutex.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/link_server.h"
#include "common/runtime/remote.h"

// The parts of a LinkServer: its streams, and each expert as one of them uses it.
namespace ccoe::rpc {

class LinkStream;

// Links that may be ending at a time; backbones are few.
inline constexpr size_t kMaxEndingLinks = 1 << 16;

// An expert on offer. What changes does so under LinkShared::mutex.
struct LinkOffer {
  internal::v1::ExpertDescription description;  // does not change
  enum class State { kServed, kLeaving, kRemoved } state = State::kServed;
  absl::Time removed_at = absl::InfiniteFuture();  // once it is leaving
  int holders = 0;                                 // streams that may have sessions for it
};

// What the streams of a server share.
struct LinkShared {
  LinkServerOptions options;  // does not change; without experts, which are in `offers`
  FrameLimits limits;
  int credit_rows = 0;  // of each expert of each link
  std::atomic<int> sessions{0};
  std::atomic<bool> stopping{false};
  // For the reaper: streams that have ended; null: offers have changed.
  base::BoundedQueue<LinkStream*> ended{kMaxEndingLinks};

  base::Mutex mutex;
  base::CondVar all_ended;
  std::set<LinkStream*> streams ABSL_GUARDED_BY(mutex);
  std::vector<std::shared_ptr<LinkOffer>> offers ABSL_GUARDED_BY(mutex);
  int base_begin ABSL_GUARDED_BY(mutex) = 0;  // as of LinkServerOptions, now
  bool draining ABSL_GUARDED_BY(mutex) = false;
};

// One expert as one backbone uses it.
class LinkPort final : public runtime::RemoteListener {
 public:
  LinkPort(LinkStream& stream, LinkShared& shared, std::shared_ptr<LinkOffer> offer, uint32_t index,
           int entry_depth)
      : offer(std::move(offer)),
        stream_(stream),
        shared_(shared),
        index_(index),
        entry_depth_(entry_depth),
        credit_(shared.credit_rows) {}
  ~LinkPort() override { shared_.sessions -= static_cast<int>(sessions_.size()); }

  // From the stream's reader.
  void Open(const internal::v1::OpenLinkSession& open);
  absl::Status Feed(const internal::v1::RowsFrame& frame);
  void Close(runtime::SessionId session);

  void OnOpened(runtime::SessionId session, const absl::Status& status) override;
  void OnResults(std::vector<runtime::RemoteResult> results) override;
  void OnFailed(runtime::SessionId session, const absl::Status& status) override;
  void OnConsumed(int rows) override;

  const std::shared_ptr<LinkOffer> offer;
  bool released = false;  // under LinkShared::mutex

 private:
  // When the last frame that wants an answer left the backbone and came here.
  struct Stamp {
    int64_t sent_ns = 0;
    int64_t arrived_ns = 0;
  };

  void Forget(runtime::SessionId session) {
    base::MutexLock lock(&mutex_);
    shared_.sessions -= static_cast<int>(sessions_.erase(session));
  }

  LinkStream& stream_;
  LinkShared& shared_;
  const uint32_t index_;
  const int entry_depth_;
  base::Mutex mutex_;
  std::unordered_map<runtime::SessionId, Stamp> sessions_ ABSL_GUARDED_BY(mutex_);
  int credit_ ABSL_GUARDED_BY(mutex_);        // rows that the backbone may still send
  int consumed_ ABSL_GUARDED_BY(mutex_) = 0;  // rows to give back
};

// One link. Deleted by the server's reaper after OnDone, when the engine has let go of its ports.
class LinkStream final
    : public grpc::ServerBidiReactor<internal::v1::LinkRequest, internal::v1::LinkResponse> {
 public:
  explicit LinkStream(LinkShared& shared) : shared_(shared) {}

  void Start();
  void Send(internal::v1::LinkResponse response);
  void End(absl::Status status);

  // While LinkShared::mutex is held:
  // FAILED_PRECONDITION when the backbone at the other end cannot feed an expert of this kind.
  absl::Status CheckFeeds(const internal::v1::ExpertDescription& expert, int base_begin) const;
  // Tells of an expert that has come, or of what became of one; nothing where the backbone has not
  // greeted yet, or does not know of such changes.
  void TellAdded(const std::shared_ptr<LinkOffer>& offer);
  void TellState(const LinkOffer& offer);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override { End(absl::CancelledError("the backbone went away")); }
  void OnDone() override;

  // Waits until the engine has let go of the ports.
  void Detach();

 private:
  absl::Status Handle();
  absl::Status Greet(const internal::v1::Hello& hello);
  absl::Status Release(LinkPort& port);
  // Adds a port for an expert that enters at this depth, and says what to tell of it.
  internal::v1::LinkExpert AddPort(const std::shared_ptr<LinkOffer>& offer, int entry_depth)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_.mutex);
  absl::StatusOr<LinkPort*> PortAt(uint32_t index);
  bool knows_changes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_.mutex);
  // The first status wins.
  void EndLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  LinkShared& shared_;
  internal::v1::LinkRequest request_;
  bool greeted_ = false;  // the reader's alone
  // Once it has greeted: what it speaks and computes.
  uint32_t protocol_ ABSL_GUARDED_BY(shared_.mutex) = 0;
  int layer_end_ ABSL_GUARDED_BY(shared_.mutex) = 0;

  base::Mutex mutex_;
  std::vector<std::unique_ptr<LinkPort>> ports_ ABSL_GUARDED_BY(mutex_);  // one per expert
  std::deque<internal::v1::LinkResponse> queue_ ABSL_GUARDED_BY(mutex_);
  internal::v1::LinkResponse in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::rpc
