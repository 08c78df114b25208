#include "common/rpc/link_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_handshake.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using internal::v1::LinkRequest;
using internal::v1::LinkResponse;
using runtime::HiddenRows;
using runtime::SessionId;

// Frames that wait for a backbone to read: far more than its sessions can cause.
constexpr size_t kMaxQueuedFrames = 1 << 16;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("link: ", what));
}

}  // namespace

void LinkStream::Start() {
  {
    base::MutexLock lock(&shared_.mutex);
    shared_.streams.insert(this);
    if (shared_.draining) {
      return End(base::MakeError(base::Reason::kDraining, "the expert is about to stop"));
    }
  }
  StartRead(&request_);
}

void LinkStream::Send(LinkResponse response) {
  base::MutexLock lock(&mutex_);
  if (ending_) return;
  if (queue_.size() >= kMaxQueuedFrames) {
    return EndLocked(absl::ResourceExhaustedError("link: the backbone does not read"));
  }
  queue_.push_back(std::move(response));
  Pump();
}

void LinkStream::End(absl::Status status) {
  base::MutexLock lock(&mutex_);
  EndLocked(std::move(status));
}

bool LinkStream::knows_changes() const { return protocol_ >= kLinkProtocolExpertsChange; }

absl::Status LinkStream::CheckFeeds(const internal::v1::ExpertDescription& expert,
                                    int base_begin) const {
  shared_.mutex.AssertHeld();
  if (protocol_ == 0) return absl::OkStatus();
  return EntryDepth(expert, base_begin, layer_end_).status();
}

void LinkStream::TellAdded(const std::shared_ptr<LinkOffer>& offer) {
  shared_.mutex.AssertHeld();
  if (!knows_changes()) return;
  const auto entry_depth = EntryDepth(offer->description, shared_.base_begin, layer_end_);
  CCOE_CHECK(entry_depth.ok());  // CheckFeeds
  LinkResponse response;
  *response.mutable_added()->mutable_expert() = AddPort(offer, *entry_depth);
  Send(std::move(response));
}

void LinkStream::TellState(const LinkOffer& offer) {
  shared_.mutex.AssertHeld();
  if (!knows_changes()) return;
  LinkResponse response;
  {
    base::MutexLock lock(&mutex_);
    const auto port = std::find_if(ports_.begin(), ports_.end(),
                                   [&](const auto& p) { return p->offer.get() == &offer; });
    if (port == ports_.end()) return;
    const auto index = static_cast<uint32_t>(port - ports_.begin());
    if (offer.state == LinkOffer::State::kLeaving) {
      response.mutable_leaving()->set_expert(index);
    } else {
      response.mutable_removed()->set_expert(index);
    }
  }
  Send(std::move(response));
}

void LinkStream::OnReadDone(bool ok) {
  if (!ok) return End(absl::OkStatus());
  const absl::Status status = Handle();
  if (!status.ok()) return End(status);
  StartRead(&request_);
}

void LinkStream::OnWriteDone(bool ok) {
  base::MutexLock lock(&mutex_);
  writing_ = false;
  if (ending_) {
    Finish(ToGrpcStatus(end_status_));
  } else if (ok) {
    Pump();
  }
}

void LinkStream::OnDone() { CCOE_CHECK(shared_.ended.TryPush(this)); }

void LinkStream::Detach() {
  std::vector<LinkPort*> ports;
  {
    base::MutexLock shared_lock(&shared_.mutex);
    base::MutexLock lock(&mutex_);
    ports.reserve(ports_.size());
    for (const auto& port : ports_) {
      ports.push_back(port.get());
      if (!std::exchange(port->released, true)) --port->offer->holders;
    }
    protocol_ = 0;  // it is told nothing more
  }
  for (LinkPort* port : ports) shared_.options.engine->DetachListener(port);
}

absl::Status LinkStream::Handle() {
  if (!greeted_) {
    if (!request_.has_hello()) return Malformed("the first frame is no handshake");
    return Greet(request_.hello());
  }
  switch (request_.frame_case()) {
    case LinkRequest::kRows: {
      CCOE_ASSIGN_OR_RETURN(LinkPort * port, PortAt(request_.rows().expert()));
      return port->Feed(request_.rows());
    }
    case LinkRequest::kOpen: {
      CCOE_ASSIGN_OR_RETURN(LinkPort * port, PortAt(request_.open().expert()));
      port->Open(request_.open());
      return absl::OkStatus();
    }
    case LinkRequest::kClose: {
      CCOE_ASSIGN_OR_RETURN(LinkPort * port, PortAt(request_.close().expert()));
      port->Close(request_.close().session());
      return absl::OkStatus();
    }
    case LinkRequest::kRelease: {
      CCOE_ASSIGN_OR_RETURN(LinkPort * port, PortAt(request_.release().expert()));
      return Release(*port);
    }
    default:
      return Malformed("a frame that does not belong here");
  }
}

absl::Status LinkStream::Greet(const internal::v1::Hello& hello) {
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
  // No expert comes or goes between the reply and what the stream is told from here on.
  base::MutexLock lock(&shared_.mutex);
  for (const std::shared_ptr<LinkOffer>& offer : shared_.offers) {
    const bool leaving = offer->state == LinkOffer::State::kLeaving;
    if (offer->state == LinkOffer::State::kRemoved ||
        (leaving && protocol < kLinkProtocolExpertsChange)) {
      continue;
    }
    CCOE_ASSIGN_OR_RETURN(const int entry_depth, EntryDepth(offer->description, shared_.base_begin,
                                                            static_cast<int>(hello.layer_end())));
    internal::v1::LinkExpert* offered = reply->add_experts();
    *offered = AddPort(offer, entry_depth);
    offered->set_leaving(leaving);
  }
  protocol_ = protocol;
  layer_end_ = static_cast<int>(hello.layer_end());
  greeted_ = true;
  Send(std::move(response));
  return absl::OkStatus();
}

internal::v1::LinkExpert LinkStream::AddPort(const std::shared_ptr<LinkOffer>& offer,
                                             int entry_depth) {
  internal::v1::LinkExpert offered;
  *offered.mutable_description() = offer->description;
  offered.set_credit_rows(shared_.credit_rows);
  offered.set_credit_bytes(int64_t{4} * shared_.limits.hidden * shared_.credit_rows);
  offered.set_entry_depth(entry_depth);
  ++offer->holders;
  base::MutexLock lock(&mutex_);
  ports_.push_back(std::make_unique<LinkPort>(*this, shared_, offer,
                                              static_cast<uint32_t>(ports_.size()), entry_depth));
  return offered;
}

absl::Status LinkStream::Release(LinkPort& port) {
  base::MutexLock lock(&shared_.mutex);
  if (port.released || port.offer->state != LinkOffer::State::kRemoved) {
    return Malformed("an expert was released out of turn");
  }
  port.released = true;
  if (--port.offer->holders == 0) (void)shared_.ended.TryPush(nullptr);
  return absl::OkStatus();
}

absl::StatusOr<LinkPort*> LinkStream::PortAt(uint32_t index) {
  base::MutexLock lock(&mutex_);
  if (index < ports_.size()) return ports_[index].get();
  return Malformed(absl::StrCat("expert ", index, " of ", ports_.size()));
}

void LinkStream::EndLocked(absl::Status status) {
  if (ending_) return;
  ending_ = true;
  end_status_ = std::move(status);
  queue_.clear();
  if (!writing_) Finish(ToGrpcStatus(end_status_));
}

// Writes under the lock, so that no write starts after Finish. gRPC runs no reaction inside.
void LinkStream::Pump() {
  if (writing_ || queue_.empty()) return;
  in_flight_ = std::move(queue_.front());
  queue_.pop_front();
  writing_ = true;
  StartWrite(&in_flight_);
}

void LinkPort::Open(const internal::v1::OpenLinkSession& open) {
  absl::StatusOr<runtime::RemoteSpec> spec = DecodeOpen(open, shared_.limits);
  if (!spec.ok()) return OnOpened(open.session(), spec.status());
  if (spec->attach_depth != entry_depth_) {
    return OnOpened(open.session(),
                    absl::FailedPreconditionError(absl::StrCat("rows enter at layer ", entry_depth_,
                                                               ", not ", spec->attach_depth)));
  }
  const internal::v1::ExpertRef& expert = offer->description.expert();
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

absl::Status LinkPort::Feed(const internal::v1::RowsFrame& frame) {
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

void LinkPort::Close(SessionId session) {
  Forget(session);
  shared_.options.engine->CloseRemote(this, session);
}

void LinkPort::OnOpened(SessionId session, const absl::Status& status) {
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

void LinkPort::OnResults(std::vector<runtime::RemoteResult> results) {
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

void LinkPort::OnFailed(SessionId session, const absl::Status& status) {
  Forget(session);
  LinkResponse response;
  response.mutable_failed()->set_expert(index_);
  response.mutable_failed()->set_session(session);
  EncodeError(status, response.mutable_failed()->mutable_error());
  stream_.Send(std::move(response));
}

void LinkPort::OnConsumed(int rows) {
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

}  // namespace ccoe::rpc
