#include "common/rpc/link_client.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/internal/v1/link.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/channel.h"
#include "common/rpc/link_connection.h"
#include "common/rpc/link_frames.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using internal::v1::LinkRequest;
using internal::v1::LinkResponse;
using runtime::HiddenRows;
using runtime::SessionId;

// A link that stood this long is tried again at once when it is lost.
constexpr absl::Duration kStableAfter = absl::Seconds(5);

// An expert at the other end. Lives as long as the client; is attached to one connection after
// another. What the engine says while there is none is dropped: the removal of the replica, which
// is on its way to the engine, moves or fails those sessions.
class Replica final : public runtime::RemoteExpert {
 public:
  Replica(int hidden, LinkObserver* observer) : hidden_(hidden), observer_(observer) {}

  void Attach(std::shared_ptr<LinkConnection> connection, uint32_t index, int credit_rows) {
    base::MutexLock lock(&mutex_);
    connection_ = std::move(connection);
    index_ = index;
    window_ = credit_rows;
    credit_ = credit_rows;
  }

  void Detach() {
    base::MutexLock lock(&mutex_);
    connection_ = nullptr;
    credit_ = 0;
  }

  absl::Status AddCredit(const internal::v1::Credit& credit) {
    base::MutexLock lock(&mutex_);
    const int64_t bytes = int64_t{credit.rows()} * hidden_ * sizeof(float);
    if (credit.rows() < 0 || credit.bytes() != bytes || credit.rows() > window_ - credit_) {
      return absl::InvalidArgumentError(
          absl::StrCat("credit of ", credit.rows(), " rows and ", credit.bytes(), " bytes"));
    }
    credit_ += credit.rows();
    return absl::OkStatus();
  }

  int CreditRows() const override {
    base::MutexLock lock(&mutex_);
    return credit_;
  }

  void OpenSession(SessionId session, const runtime::RemoteSpec& spec) override {
    const auto [connection, index] = Current();
    if (connection == nullptr) return;
    LinkRequest request;
    *request.mutable_open() = EncodeOpen(index, session, spec);
    connection->SendControl(std::move(request));
  }

  void Send(std::vector<HiddenRows> rows) override {
    const auto [connection, index] = Current();
    if (connection == nullptr) return;
    std::vector<EncodedRows> frames = EncodeRows(index, rows, hidden_, MonotonicNs());
    int count = 0;
    for (const EncodedRows& frame : frames) count += frame.rows;
    if (!Spend(count)) {
      return connection->End(absl::InternalError("rows were sent beyond the expert's credit"));
    }
    if (observer_ != nullptr) observer_->OnHiddenStatesSent(size_t{4} * hidden_ * count);
    connection->SendRows(std::move(frames));
  }

  void CloseSession(SessionId session) override {
    const auto [connection, index] = Current();
    if (connection == nullptr) return;
    LinkRequest request;
    request.mutable_close()->set_expert(index);
    request.mutable_close()->set_session(session);
    connection->SendControl(std::move(request));
  }

 private:
  bool Spend(int rows) {
    base::MutexLock lock(&mutex_);
    if (rows > credit_) return false;
    credit_ -= rows;
    return true;
  }

  std::pair<std::shared_ptr<LinkConnection>, uint32_t> Current() const {
    base::MutexLock lock(&mutex_);
    return {connection_, index_};
  }

  const int hidden_;
  LinkObserver* const observer_;
  mutable base::Mutex mutex_;
  std::shared_ptr<LinkConnection> connection_ ABSL_GUARDED_BY(mutex_);
  uint32_t index_ ABSL_GUARDED_BY(mutex_) = 0;
  int window_ ABSL_GUARDED_BY(mutex_) = 0;
  int credit_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

class LinkClient::Impl final : public LinkConnectionEvents {
 public:
  explicit Impl(LinkClientOptions options)
      : options_(std::move(options)),
        limits_{options_.identity.hidden, options_.identity.vocab, options_.identity.max_context},
        stub_(internal::v1::ExpertService::NewStub(MakeChannel(options_.address))),
        backoff_(options_.min_backoff) {
    base::MutexLock lock(&mutex_);
    state_.status = absl::UnavailableError(absl::StrCat("connecting to ", options_.address));
    Connect();
  }

  State GetState() const {
    base::MutexLock lock(&mutex_);
    return state_;
  }
  const std::string& address() const { return options_.address; }

  void Stop() {
    std::shared_ptr<LinkConnection> connection;
    {
      base::MutexLock lock(&mutex_);
      stopping_ = true;
      connection = connection_;
      if (alarm_ != nullptr) alarm_->Cancel();
    }
    if (connection != nullptr) connection->End(absl::UnavailableError("the backbone is stopping"));
    base::MutexLock lock(&mutex_);
    while (connection_ != nullptr || alarm_pending_) idle_.Wait(&mutex_);
  }

  absl::Status OnHandshake(const internal::v1::HelloReply& reply) override {
    CCOE_RETURN_IF_ERROR(CheckHelloReply(reply, options_.identity));
    std::shared_ptr<LinkConnection> connection;
    {
      base::MutexLock lock(&mutex_);
      connection = connection_;
      by_index_.clear();
      for (const internal::v1::LinkExpert& expert : reply.experts()) {
        const runtime::ExpertKey key{expert.description().expert().name(),
                                     expert.description().expert().version()};
        std::unique_ptr<Replica>& replica = replicas_[key];
        if (replica == nullptr) {
          replica = std::make_unique<Replica>(options_.identity.hidden, options_.observer);
        }
        const int64_t by_bytes = expert.credit_bytes() / (4 * options_.identity.hidden);
        replica->Attach(connection, by_index_.size(),
                        static_cast<int>(std::min<int64_t>(expert.credit_rows(), by_bytes)));
        by_index_.push_back(replica.get());
      }
    }
    std::vector<internal::v1::ExpertDescription> added;
    for (int i = 0; i < reply.experts_size(); ++i) {
      const internal::v1::ExpertDescription& description = reply.experts(i).description();
      runtime::ExpertInfo info = ExpertInfoOf(description);
      info.attach_depth = reply.experts(i).entry_depth();
      const absl::Status status = options_.engine->AddReplica(info, by_index_[i]);
      if (status.ok()) {
        added.push_back(description);
      } else if (absl::IsAlreadyExists(status)) {  // another of that name goes first
        telemetry::LogWarning("replica_not_used", {{"expert", info.key.name},
                                                   {"address", options_.address},
                                                   {"message", std::string(status.message())}});
      } else {
        return status;
      }
    }
    {
      base::MutexLock lock(&mutex_);
      state_.status = absl::OkStatus();
      state_.experts = std::move(added);
      state_.tried = true;
      state_.draining = false;
      connected_at_ = absl::Now();
    }
    Notify(absl::OkStatus());
    return absl::OkStatus();
  }

  absl::Status OnFrame(LinkResponse& response) override {
    runtime::Engine& engine = *options_.engine;
    switch (response.frame_case()) {
      case LinkResponse::kResults:
        return OnResults(response.results());
      case LinkResponse::kCredit: {
        CCOE_ASSIGN_OR_RETURN(Replica * replica, ByIndex(response.credit().expert()));
        CCOE_RETURN_IF_ERROR(replica->AddCredit(response.credit()));
        engine.LinkReady(replica);
        return absl::OkStatus();
      }
      case LinkResponse::kOpened: {
        const internal::v1::SessionOpened& opened = response.opened();
        CCOE_ASSIGN_OR_RETURN(Replica * replica, ByIndex(opened.expert()));
        engine.RemoteOpened(replica, opened.session(),
                            opened.has_error() ? DecodeError(opened.error()) : absl::OkStatus());
        return absl::OkStatus();
      }
      case LinkResponse::kFailed: {
        CCOE_ASSIGN_OR_RETURN(Replica * replica, ByIndex(response.failed().expert()));
        engine.RemoteFailed(replica, response.failed().session(),
                            DecodeError(response.failed().error()));
        return absl::OkStatus();
      }
      case LinkResponse::kGoAway: {
        {
          base::MutexLock lock(&mutex_);
          state_.draining = true;
        }
        Notify(base::MakeError(base::Reason::kDraining, "the expert is about to stop"));
        return absl::OkStatus();
      }
      case LinkResponse::kHello:
      case LinkResponse::FRAME_NOT_SET:
        break;
    }
    return absl::InvalidArgumentError("the expert sent a frame that does not belong here");
  }

  void OnDone(const absl::Status& status) override {
    std::vector<Replica*> lost = std::exchange(by_index_, {});
    const absl::Status why = base::MakeError(
        base::Reason::kConnectionLost, absl::StrCat("the link to expert process ", options_.address,
                                                    " was lost: ", std::string(status.message())));
    for (Replica* replica : lost) {
      replica->Detach();
      options_.engine->RemoveReplica(replica, why);
    }
    bool changed = false;
    {
      base::MutexLock lock(&mutex_);
      // An attempt that fails as the one before is no news, and neither is the end of a Stop.
      changed = !stopping_ && (!state_.tried || state_.status.code() != status.code());
      state_.status = status;
      state_.tried = true;
    }
    if (changed) Notify(status);
    base::MutexLock lock(&mutex_);
    connection_ = nullptr;  // the last one on gRPC's threads; see channel.h
    if (!stopping_) WaitAndConnect();
    idle_.SignalAll();
  }

 private:
  absl::Status OnResults(const internal::v1::ResultsFrame& frame) {
    CCOE_ASSIGN_OR_RETURN(Replica * replica, ByIndex(frame.expert()));
    CCOE_ASSIGN_OR_RETURN(std::vector<runtime::RemoteResult> results,
                          DecodeResults(frame, limits_));
    if (options_.observer != nullptr) {
      const int64_t now = MonotonicNs();
      for (const internal::v1::RowsResult& result : frame.results()) {
        if (result.sent_ns() == 0) continue;  // of a session that was closed meanwhile
        options_.observer->OnRoundTrip(
            absl::Nanoseconds(std::max<int64_t>(0, now - result.sent_ns() - result.held_ns())));
      }
    }
    options_.engine->RemoteResults(replica, std::move(results));
    return absl::OkStatus();
  }

  absl::StatusOr<Replica*> ByIndex(uint32_t index) {
    if (index < by_index_.size()) return by_index_[index];
    return absl::InvalidArgumentError(
        absl::StrCat("the expert named expert ", index, " of ", by_index_.size()));
  }

  void Connect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    connected_at_ = absl::InfiniteFuture();
    connection_ = std::make_shared<LinkConnection>(*this, options_.handshake_timeout);
    connection_->Start(*stub_, MakeHello(options_.identity));
  }

  // Waits longer from time to time, a random part of it less, so that peers do not come all at
  // once.
  void WaitAndConnect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (absl::Now() - connected_at_ > kStableAfter) backoff_ = options_.min_backoff;
    const absl::Duration delay = backoff_ * absl::Uniform(random_, 0.5, 1.0);
    backoff_ = std::min(backoff_ * 2, options_.max_backoff);
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_pending_ = true;
    alarm_->Set(absl::ToChronoTime(absl::Now() + delay), [this](bool) {
      base::MutexLock lock(&mutex_);
      alarm_pending_ = false;
      if (!stopping_) Connect();
      idle_.SignalAll();
    });
  }

  void Notify(const absl::Status& status) {
    if (options_.observer != nullptr) options_.observer->OnLinkChanged(options_.address, status);
  }

  const LinkClientOptions options_;
  const FrameLimits limits_;
  const std::unique_ptr<internal::v1::ExpertService::StubInterface> stub_;
  // Written at the handshake and at the end of a connection, read by its frames between them.
  std::vector<Replica*> by_index_;

  mutable base::Mutex mutex_;
  base::CondVar idle_;
  State state_ ABSL_GUARDED_BY(mutex_);
  std::map<runtime::ExpertKey, std::unique_ptr<Replica>> replicas_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<LinkConnection> connection_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  bool alarm_pending_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time connected_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
};

LinkClient::LinkClient(LinkClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

LinkClient::~LinkClient() { Stop(); }

LinkClient::State LinkClient::GetState() const { return impl_->GetState(); }
const std::string& LinkClient::address() const { return impl_->address(); }
void LinkClient::Stop() { impl_->Stop(); }

}  // namespace ccoe::rpc
