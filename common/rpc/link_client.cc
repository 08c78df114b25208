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
#include "common/rpc/link_replica.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using internal::v1::LinkResponse;

// A link that stood this long is tried again at once when it is lost.
constexpr absl::Duration kStableAfter = absl::Seconds(5);

}  // namespace

class LinkClient::Impl final : public LinkConnectionEvents {
 public:
  explicit Impl(LinkClientOptions options)
      : options_(std::move(options)),
        limits_{options_.identity.hidden, options_.identity.vocab, options_.identity.max_context},
        stub_(internal::v1::ExpertService::NewStub(
            MakeChannel(options_.address, options_.credentials))),
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
    protocol_ = reply.protocol();
    places_.clear();
    std::vector<internal::v1::ExpertDescription> listed;
    for (const internal::v1::LinkExpert& expert : reply.experts()) {
      CCOE_ASSIGN_OR_RETURN(const bool is_listed, Take(expert));
      if (is_listed) listed.push_back(expert.description());
    }
    {
      base::MutexLock lock(&mutex_);
      state_.status = absl::OkStatus();
      state_.experts = std::move(listed);
      state_.layer_begin = reply.layer_begin();
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
        CCOE_ASSIGN_OR_RETURN(const Place* place, ByIndex(response.credit().expert()));
        CCOE_RETURN_IF_ERROR(place->replica->AddCredit(response.credit()));
        engine.LinkReady(place->replica);
        return absl::OkStatus();
      }
      case LinkResponse::kOpened: {
        const internal::v1::SessionOpened& opened = response.opened();
        CCOE_ASSIGN_OR_RETURN(const Place* place, ByIndex(opened.expert()));
        engine.RemoteOpened(place->replica, opened.session(),
                            opened.has_error() ? DecodeError(opened.error()) : absl::OkStatus());
        return absl::OkStatus();
      }
      case LinkResponse::kFailed: {
        CCOE_ASSIGN_OR_RETURN(const Place* place, ByIndex(response.failed().expert()));
        engine.RemoteFailed(place->replica, response.failed().session(),
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
      case LinkResponse::kAdded:
      case LinkResponse::kLeaving:
      case LinkResponse::kRemoved:
        if (protocol_ < kLinkProtocolExpertsChange) break;
        return OnExpertChange(response);
      case LinkResponse::kHello:
      case LinkResponse::FRAME_NOT_SET:
        break;
    }
    return absl::InvalidArgumentError("the expert sent a frame that does not belong here");
  }

  void OnDone(const absl::Status& status) override {
    const std::vector<Place> lost = std::exchange(places_, {});
    const absl::Status why = base::MakeError(
        base::Reason::kConnectionLost, absl::StrCat("the link to expert process ", options_.address,
                                                    " was lost: ", std::string(status.message())));
    for (const Place& place : lost) {
      place.replica->Detach();
      options_.engine->RemoveReplica(place.replica, why);
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
  // An expert of the connection.
  struct Place {
    LinkReplica* replica = nullptr;
    runtime::ExpertKey key;
    enum class State { kServed, kLeaving, kRemoved } state = State::kServed;
  };

  // Gives an expert the next index and the engine its replica. False when it is not to be listed.
  absl::StatusOr<bool> Take(const internal::v1::LinkExpert& expert) {
    runtime::ExpertInfo info = ExpertInfoOf(expert.description());
    info.attach_depth = expert.entry_depth();
    const int64_t by_bytes = expert.credit_bytes() / (4 * options_.identity.hidden);
    LinkReplica* replica = nullptr;
    {
      base::MutexLock lock(&mutex_);
      replica = FreeReplica(info.key);
      replica->Attach(connection_, places_.size(),
                      static_cast<int>(std::min<int64_t>(expert.credit_rows(), by_bytes)));
    }
    places_.push_back(
        {replica, info.key, expert.leaving() ? Place::State::kLeaving : Place::State::kServed});
    const absl::Status status = options_.engine->AddReplica(info, replica);
    if (status.ok()) return !expert.leaving();
    if (!absl::IsAlreadyExists(status)) return status;
    // Another of that name goes first.
    telemetry::LogWarning("replica_not_used", {{"expert", info.key.name},
                                               {"address", options_.address},
                                               {"message", std::string(status.message())}});
    return false;
  }

  // One that no connection has: the expert may have come again before the last session of its
  // former stay has ended.
  LinkReplica* FreeReplica(const runtime::ExpertKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto [begin, end] = replicas_.equal_range(key);
    for (auto it = begin; it != end; ++it) {
      if (!it->second->attached()) return it->second.get();
    }
    auto made = std::make_unique<LinkReplica>(options_.identity.hidden, options_.observer);
    return replicas_.emplace(key, std::move(made))->second.get();
  }

  absl::Status OnExpertChange(const LinkResponse& response) {
    if (response.has_added()) {
      const internal::v1::LinkExpert& expert = response.added().expert();
      CCOE_RETURN_IF_ERROR(CheckOffered(expert, options_.identity));
      CCOE_ASSIGN_OR_RETURN(const bool is_listed, Take(expert));
      base::MutexLock lock(&mutex_);
      if (is_listed) state_.experts.push_back(expert.description());
    } else if (response.has_leaving()) {
      CCOE_ASSIGN_OR_RETURN(Place * place, ByIndex(response.leaving().expert()));
      if (place->state != Place::State::kServed) return OutOfTurn(*place);
      place->state = Place::State::kLeaving;
      base::MutexLock lock(&mutex_);
      std::erase_if(state_.experts, [&](const internal::v1::ExpertDescription& listed) {
        return ExpertInfoOf(listed).key == place->key;
      });
    } else {
      CCOE_ASSIGN_OR_RETURN(Place * place, ByIndex(response.removed().expert()));
      if (place->state != Place::State::kLeaving) return OutOfTurn(*place);
      place->state = Place::State::kRemoved;
      place->replica->MarkRemoved();
      options_.engine->RetireReplica(place->replica);
      return absl::OkStatus();
    }
    if (options_.observer != nullptr) options_.observer->OnExpertsChanged(options_.address);
    return absl::OkStatus();
  }

  static absl::Status OutOfTurn(const Place& place) {
    return absl::InvalidArgumentError(absl::StrCat("expert ", place.key.name, " left out of turn"));
  }

  absl::Status OnResults(const internal::v1::ResultsFrame& frame) {
    CCOE_ASSIGN_OR_RETURN(const Place* place, ByIndex(frame.expert()));
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
    options_.engine->RemoteResults(place->replica, std::move(results));
    return absl::OkStatus();
  }

  absl::StatusOr<Place*> ByIndex(uint32_t index) {
    if (index < places_.size()) return &places_[index];
    return absl::InvalidArgumentError(
        absl::StrCat("the expert named expert ", index, " of ", places_.size()));
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
  // A connection's alone, from its handshake to its end, one frame at a time.
  std::vector<Place> places_;
  uint32_t protocol_ = 0;

  mutable base::Mutex mutex_;
  base::CondVar idle_;
  State state_ ABSL_GUARDED_BY(mutex_);
  std::multimap<runtime::ExpertKey, std::unique_ptr<LinkReplica>> replicas_ ABSL_GUARDED_BY(mutex_);
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
