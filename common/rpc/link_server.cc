#include "common/rpc/link_server.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/internal/v1/link.grpc.pb.h"
#include "common/base/bounded_queue.h"
#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using internal::v1::LinkRequest;
using internal::v1::LinkResponse;
using runtime::HiddenRows;
using runtime::SessionId;

// Links that may be ending at a time; backbones are few.
constexpr size_t kMaxEndingLinks = 1 << 16;
// Frames that wait for a backbone to read: far more than its sessions can cause.
constexpr size_t kMaxQueuedFrames = 1 << 16;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("link: ", what));
}

class Stream;

// What the streams share.
struct Shared {
  LinkServerOptions options;
  FrameLimits limits;
  int credit_rows = 0;  // of each expert of each link
  std::atomic<int> sessions{0};
  std::atomic<bool> stopping{false};
  base::BoundedQueue<Stream*> ended{kMaxEndingLinks};

  base::Mutex mutex;
  base::CondVar all_ended;
  std::set<Stream*> streams ABSL_GUARDED_BY(mutex);
  bool draining ABSL_GUARDED_BY(mutex) = false;
};

// One expert as one backbone uses it.
class Port final : public runtime::RemoteListener {
 public:
  Port(Stream& stream, Shared& shared, uint32_t index, int entry_depth)
      : stream_(stream),
        shared_(shared),
        index_(index),
        entry_depth_(entry_depth),
        credit_(shared.credit_rows) {}
  ~Port() override { shared_.sessions -= static_cast<int>(sessions_.size()); }

  // From the stream's reader.
  void Open(const internal::v1::OpenLinkSession& open);
  absl::Status Feed(const internal::v1::RowsFrame& frame);
  void Close(SessionId session);

  void OnOpened(SessionId session, const absl::Status& status) override;
  void OnResults(std::vector<runtime::RemoteResult> results) override;
  void OnFailed(SessionId session, const absl::Status& status) override;
  void OnConsumed(int rows) override;

 private:
  // When the last frame that wants an answer left the backbone and came here.
  struct Stamp {
    int64_t sent_ns = 0;
    int64_t arrived_ns = 0;
  };

  void Forget(SessionId session) {
    base::MutexLock lock(&mutex_);
    shared_.sessions -= static_cast<int>(sessions_.erase(session));
  }

  Stream& stream_;
  Shared& shared_;
  const uint32_t index_;
  const int entry_depth_;
  base::Mutex mutex_;
  std::unordered_map<SessionId, Stamp> sessions_ ABSL_GUARDED_BY(mutex_);
  int credit_ ABSL_GUARDED_BY(mutex_);        // rows that the backbone may still send
  int consumed_ ABSL_GUARDED_BY(mutex_) = 0;  // rows to give back
};

// One link. Deleted by the server's reaper after OnDone, when the engine has let go of its ports.
class Stream final : public grpc::ServerBidiReactor<LinkRequest, LinkResponse> {
 public:
  explicit Stream(Shared& shared) : shared_(shared) {}

  void Start() {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.streams.insert(this);
      if (shared_.draining) {
        return End(base::MakeError(base::Reason::kDraining, "the expert is about to stop"));
      }
    }
    StartRead(&request_);
  }

  void Send(LinkResponse response) {
    base::MutexLock lock(&mutex_);
    if (ending_) return;
    if (queue_.size() >= kMaxQueuedFrames) {
      return EndLocked(absl::ResourceExhaustedError("link: the backbone does not read"));
    }
    queue_.push_back(std::move(response));
    Pump();
  }

  void End(absl::Status status) {
    base::MutexLock lock(&mutex_);
    EndLocked(std::move(status));
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());
    const absl::Status status = Handle();
    if (!status.ok()) return End(status);
    StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    base::MutexLock lock(&mutex_);
    writing_ = false;
    if (ending_) {
      Finish(ToGrpcStatus(end_status_));
    } else if (ok) {
      Pump();
    }
  }

  void OnCancel() override { End(absl::CancelledError("the backbone went away")); }

  void OnDone() override { CCOE_CHECK(shared_.ended.TryPush(this)); }

  void Detach() {
    for (const auto& port : ports_) shared_.options.engine->DetachListener(port.get());
  }

 private:
  absl::Status Handle() {
    if (!greeted_) {
      if (!request_.has_hello()) return Malformed("the first frame is no handshake");
      return Greet(request_.hello());
    }
    switch (request_.frame_case()) {
      case LinkRequest::kRows: {
        CCOE_ASSIGN_OR_RETURN(Port * port, PortAt(request_.rows().expert()));
        return port->Feed(request_.rows());
      }
      case LinkRequest::kOpen: {
        CCOE_ASSIGN_OR_RETURN(Port * port, PortAt(request_.open().expert()));
        port->Open(request_.open());
        return absl::OkStatus();
      }
      case LinkRequest::kClose: {
        CCOE_ASSIGN_OR_RETURN(Port * port, PortAt(request_.close().expert()));
        port->Close(request_.close().session());
        return absl::OkStatus();
      }
      default:
        return Malformed("a frame that does not belong here");
    }
  }

  absl::Status Greet(const internal::v1::Hello& hello) {
    const LinkIdentity& own = shared_.options.identity;
    CCOE_ASSIGN_OR_RETURN(const uint32_t protocol, CheckHello(hello, own));
    LinkResponse response;
    internal::v1::HelloReply* reply = response.mutable_hello();
    reply->set_protocol(protocol);
    reply->set_base_digest(own.base_digest);
    reply->set_arithmetic(own.arithmetic);
    reply->set_layers(own.layers);
    reply->set_hidden(own.hidden);
    reply->set_layer_begin(own.layer_begin);
    reply->set_node(own.node);
    for (const internal::v1::ExpertDescription& expert : shared_.options.experts) {
      CCOE_ASSIGN_OR_RETURN(const int entry_depth, EntryDepth(expert, shared_.options.base_begin,
                                                              static_cast<int>(hello.layer_end())));
      internal::v1::LinkExpert* offered = reply->add_experts();
      *offered->mutable_description() = expert;
      offered->set_credit_rows(shared_.credit_rows);
      offered->set_credit_bytes(int64_t{4} * own.hidden * shared_.credit_rows);
      offered->set_entry_depth(entry_depth);
      ports_.push_back(std::make_unique<Port>(*this, shared_, ports_.size(), entry_depth));
    }
    greeted_ = true;
    Send(std::move(response));
    return absl::OkStatus();
  }

  absl::StatusOr<Port*> PortAt(uint32_t index) {
    if (index < ports_.size()) return ports_[index].get();
    return Malformed(absl::StrCat("expert ", index, " of ", ports_.size()));
  }

  // The first status wins.
  void EndLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ending_) return;
    ending_ = true;
    end_status_ = std::move(status);
    queue_.clear();
    if (!writing_) Finish(ToGrpcStatus(end_status_));
  }

  // Writes under the lock, so that no write starts after Finish. gRPC runs no reaction inside.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || queue_.empty()) return;
    in_flight_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    StartWrite(&in_flight_);
  }

  Shared& shared_;
  LinkRequest request_;
  bool greeted_ = false;                      // used by the reader alone, as is:
  std::vector<std::unique_ptr<Port>> ports_;  // one per expert

  base::Mutex mutex_;
  std::deque<LinkResponse> queue_ ABSL_GUARDED_BY(mutex_);
  LinkResponse in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

void Port::Open(const internal::v1::OpenLinkSession& open) {
  absl::StatusOr<runtime::RemoteSpec> spec = DecodeOpen(open, shared_.limits);
  if (!spec.ok()) return OnOpened(open.session(), spec.status());
  if (spec->attach_depth != entry_depth_) {
    return OnOpened(open.session(),
                    absl::FailedPreconditionError(absl::StrCat("rows enter at layer ", entry_depth_,
                                                               ", not ", spec->attach_depth)));
  }
  const internal::v1::ExpertRef& expert = shared_.options.experts[index_].expert();
  spec->expert = {expert.name(), expert.version()};
  telemetry::LogInfo("session_opened",
                     {{"request_id", spec->request_id},
                      {"expert", spec->expert.name},
                      telemetry::LogField::IfAny("traceparent", spec->traceparent)});
  {
    base::MutexLock lock(&mutex_);
    if (sessions_.try_emplace(open.session()).second) shared_.sessions += 1;
  }
  shared_.options.engine->OpenRemote(open.session(), *std::move(spec), this);
}

absl::Status Port::Feed(const internal::v1::RowsFrame& frame) {
  CCOE_ASSIGN_OR_RETURN(std::vector<HiddenRows> rows, DecodeRows(frame, shared_.limits));
  const int64_t now = MonotonicNs();
  int count = 0;
  {
    base::MutexLock lock(&mutex_);
    for (const HiddenRows& r : rows) {
      count += static_cast<int>(r.tokens.size());
      if (r.output == runtime::RowOutput::kNone) continue;
      if (const auto it = sessions_.find(r.session); it != sessions_.end()) {
        it->second = {frame.sent_ns(), now};
      }
    }
    if (count > credit_) return Malformed("more rows than there was credit for");
    credit_ -= count;
  }
  if (shared_.options.observer != nullptr) {
    shared_.options.observer->OnHiddenStatesReceived(frame.payload().size());
  }
  shared_.options.engine->FeedRows(this, std::move(rows));
  return absl::OkStatus();
}

void Port::Close(SessionId session) {
  Forget(session);
  shared_.options.engine->CloseRemote(this, session);
}

void Port::OnOpened(SessionId session, const absl::Status& status) {
  LinkResponse response;
  response.mutable_opened()->set_expert(index_);
  response.mutable_opened()->set_session(session);
  if (!status.ok()) {
    // A session of this id that was open before stays.
    if (!absl::IsAlreadyExists(status)) Forget(session);
    EncodeError(status, response.mutable_opened()->mutable_error());
  }
  stream_.Send(std::move(response));
}

void Port::OnResults(std::vector<runtime::RemoteResult> results) {
  LinkResponse response;
  internal::v1::ResultsFrame* frame = response.mutable_results();
  frame->set_expert(index_);
  {
    base::MutexLock lock(&mutex_);
    const int64_t now = MonotonicNs();
    for (const runtime::RemoteResult& result : results) {
      internal::v1::RowsResult* out = frame->add_results();
      EncodeResult(result, out);
      if (const auto it = sessions_.find(result.session); it != sessions_.end()) {
        out->set_sent_ns(it->second.sent_ns);
        out->set_held_ns(now - it->second.arrived_ns);
      }
    }
  }
  stream_.Send(std::move(response));
}

void Port::OnFailed(SessionId session, const absl::Status& status) {
  Forget(session);
  LinkResponse response;
  response.mutable_failed()->set_expert(index_);
  response.mutable_failed()->set_session(session);
  EncodeError(status, response.mutable_failed()->mutable_error());
  stream_.Send(std::move(response));
}

void Port::OnConsumed(int rows) {
  LinkResponse response;
  {
    base::MutexLock lock(&mutex_);
    consumed_ += rows;
    // Given back a quarter at a time: a frame for every step would cost as much as the results.
    if (consumed_ < std::max(1, shared_.credit_rows / 4)) return;
    response.mutable_credit()->set_expert(index_);
    response.mutable_credit()->set_rows(consumed_);
    response.mutable_credit()->set_bytes(int64_t{4} * shared_.limits.hidden * consumed_);
    credit_ += consumed_;
    consumed_ = 0;
  }
  stream_.Send(std::move(response));
}

}  // namespace

class LinkServer::Impl final : public internal::v1::ExpertService::CallbackService {
 public:
  explicit Impl(LinkServerOptions options) {
    const LinkIdentity& identity = options.identity;
    shared_.limits = {identity.hidden, identity.vocab, identity.max_context};
    const int64_t rows = options.credit_bytes / (int64_t{4} * identity.hidden);
    shared_.credit_rows = static_cast<int>(std::clamp<int64_t>(rows, 1, 1 << 16));
    shared_.options = std::move(options);
    reaper_ = std::thread([this] { Reap(); });
  }

  grpc::ServerBidiReactor<LinkRequest, LinkResponse>* Link(
      grpc::CallbackServerContext* /*context*/) override {
    auto* stream = new Stream(shared_);
    stream->Start();
    return stream;
  }

  int sessions() const { return shared_.sessions; }

  bool Drain(absl::Duration timeout) {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.draining = true;
      LinkResponse response;
      response.mutable_go_away()->set_reason("the expert process is about to stop");
      for (Stream* stream : shared_.streams) stream->Send(response);
    }
    const absl::Time deadline = absl::Now() + timeout;
    while (shared_.sessions > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    return shared_.sessions == 0;
  }

  void Stop() {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.draining = true;
      for (Stream* stream : shared_.streams) {
        stream->End(base::MakeError(base::Reason::kDraining, "the expert process is stopping"));
      }
      while (!shared_.streams.empty()) shared_.all_ended.Wait(&shared_.mutex);
    }
    shared_.stopping = true;
    shared_.ended.Close();
    if (reaper_.joinable()) reaper_.join();
  }

 private:
  // Waits for the engine on behalf of the streams, whose callbacks must not.
  void Reap() {
    while (true) {
      const std::vector<Stream*> ended = shared_.ended.WaitAndTakeAll(std::chrono::seconds(1));
      for (Stream* stream : ended) {
        stream->Detach();
        base::MutexLock lock(&shared_.mutex);
        shared_.streams.erase(stream);
        delete stream;
        shared_.all_ended.SignalAll();
      }
      if (ended.empty() && shared_.stopping) return;
    }
  }

  Shared shared_;
  std::thread reaper_;
};

LinkServer::LinkServer(LinkServerOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

LinkServer::~LinkServer() { Stop(); }

grpc::Service* LinkServer::service() { return impl_.get(); }
int LinkServer::sessions() const { return impl_->sessions(); }
bool LinkServer::Drain(absl::Duration timeout) { return impl_->Drain(timeout); }
void LinkServer::Stop() { impl_->Stop(); }

}  // namespace ccoe::rpc
