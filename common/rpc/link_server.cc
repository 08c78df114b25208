#include "common/rpc/link_server.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/internal/v1/link.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_stream.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {

using internal::v1::ExpertDescription;
using internal::v1::LinkRequest;
using internal::v1::LinkResponse;

class LinkServer::Impl final : public internal::v1::ExpertService::CallbackService {
 public:
  explicit Impl(LinkServerOptions options) {
    const LinkIdentity& identity = options.identity;
    shared_.limits = {identity.hidden, identity.vocab, identity.max_context};
    const int64_t rows = options.credit_bytes / (int64_t{4} * identity.hidden);
    shared_.credit_rows = static_cast<int>(std::clamp<int64_t>(rows, 1, 1 << 16));
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.base_begin = options.base_begin;
      for (const ExpertDescription& expert : options.experts) AddOffer(expert);
    }
    shared_.options = std::move(options);
    shared_.options.experts.clear();
    reaper_ = std::thread([this] { Reap(); });
  }

  grpc::ServerBidiReactor<LinkRequest, LinkResponse>* Link(
      grpc::CallbackServerContext* /*context*/) override {
    auto* stream = new LinkStream(shared_);
    stream->Start();
    return stream;
  }

  int sessions() const { return shared_.sessions; }
  absl::Duration linger() const { return shared_.options.linger; }

  absl::Status CheckFed(const ExpertDescription& expert, int base_begin) {
    base::MutexLock lock(&shared_.mutex);
    return CheckFedLocked(expert, base_begin);
  }

  absl::Status Add(const ExpertDescription& expert, int base_begin) {
    base::MutexLock lock(&shared_.mutex);
    CCOE_RETURN_IF_ERROR(CheckFedLocked(expert, base_begin));
    shared_.base_begin = base_begin;
    const std::shared_ptr<LinkOffer> offer = AddOffer(expert);
    for (LinkStream* stream : shared_.streams) stream->TellAdded(offer);
    return absl::OkStatus();
  }

  absl::Status Pop(const runtime::ExpertKey& key) {
    base::MutexLock lock(&shared_.mutex);
    for (const std::shared_ptr<LinkOffer>& offer : shared_.offers) {
      const bool served = offer->state == LinkOffer::State::kServed;
      if (!served || ExpertInfoOf(offer->description).key != key) continue;
      if (offer->description.package_digest().empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("`", key.name, "` is the base model and stays"));
      }
      offer->state = LinkOffer::State::kLeaving;
      offer->removed_at = absl::Now() + shared_.options.linger;
      for (LinkStream* stream : shared_.streams) stream->TellState(*offer);
      (void)shared_.ended.TryPush(nullptr);
      return absl::OkStatus();
    }
    return base::MakeError(base::Reason::kUnknownExpert,
                           absl::StrCat("no expert ", key.name, " version ", key.version));
  }

  bool Drain(absl::Duration timeout) {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.draining = true;
      LinkResponse response;
      response.mutable_go_away()->set_reason("the expert process is about to stop");
      for (LinkStream* stream : shared_.streams) stream->Send(response);
    }
    const absl::Time deadline = absl::Now() + timeout;
    while (shared_.sessions > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    return shared_.sessions == 0;
  }

  void Stop() {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.draining = true;
      for (LinkStream* stream : shared_.streams) {
        stream->End(base::MakeError(base::Reason::kDraining, "the expert process is stopping"));
      }
      while (!shared_.streams.empty()) shared_.all_ended.Wait(&shared_.mutex);
    }
    shared_.stopping = true;
    shared_.ended.Close();
    if (reaper_.joinable()) reaper_.join();
  }

 private:
  std::shared_ptr<LinkOffer> AddOffer(const ExpertDescription& expert)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_.mutex) {
    auto offer = std::make_shared<LinkOffer>();
    offer->description = expert;
    shared_.offers.push_back(offer);
    return offer;
  }

  absl::Status CheckFedLocked(const ExpertDescription& expert, int base_begin)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_.mutex) {
    if (shared_.draining) {
      return base::MakeError(base::Reason::kDraining, "the expert process is about to stop");
    }
    for (const LinkStream* stream : shared_.streams) {
      CCOE_RETURN_IF_ERROR(stream->CheckFeeds(expert, base_begin));
    }
    return absl::OkStatus();
  }

  // Waits for the engine on behalf of the streams, whose callbacks must not, and for the time of
  // the experts that leave.
  void Reap() {
    absl::Duration wait = absl::Seconds(1);
    while (true) {
      const std::vector<LinkStream*> ended =
          shared_.ended.WaitAndTakeAll(absl::ToChronoNanoseconds(wait));
      for (LinkStream* stream : ended) {
        if (stream == nullptr) continue;
        stream->Detach();
        base::MutexLock lock(&shared_.mutex);
        shared_.streams.erase(stream);
        delete stream;
        shared_.all_ended.SignalAll();
      }
      if (ended.empty() && shared_.stopping) return;
      wait = LetGo();
    }
  }

  // Removes experts whose time is over, and those that no backbone needs any more from the engine.
  // Returns how long nothing more is to be done.
  absl::Duration LetGo() {
    absl::Duration wait = absl::Seconds(1);
    std::vector<runtime::ExpertKey> gone;
    {
      base::MutexLock lock(&shared_.mutex);
      const absl::Time now = absl::Now();
      for (const std::shared_ptr<LinkOffer>& offer : shared_.offers) {
        if (offer->state != LinkOffer::State::kLeaving) continue;
        if (now >= offer->removed_at) {
          offer->state = LinkOffer::State::kRemoved;
          for (LinkStream* stream : shared_.streams) stream->TellState(*offer);
        } else {
          wait = std::min(wait, offer->removed_at - now);
        }
      }
      std::erase_if(shared_.offers, [&](const std::shared_ptr<LinkOffer>& offer) {
        if (offer->state != LinkOffer::State::kRemoved || offer->holders > 0) return false;
        gone.push_back(ExpertInfoOf(offer->description).key);
        return true;
      });
    }
    for (const runtime::ExpertKey& key : gone) {
      shared_.options.engine->RemoveExpert(key).IgnoreError();
      telemetry::LogInfo("expert_removed", {{"expert", key.name}, {"version", key.version}});
    }
    return wait;
  }

  LinkShared shared_;
  std::thread reaper_;
};

LinkServer::LinkServer(LinkServerOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

LinkServer::~LinkServer() { Stop(); }

grpc::Service* LinkServer::service() { return impl_.get(); }
int LinkServer::sessions() const { return impl_->sessions(); }
absl::Duration LinkServer::linger() const { return impl_->linger(); }
absl::Status LinkServer::CheckFed(const ExpertDescription& expert, int base_begin) {
  return impl_->CheckFed(expert, base_begin);
}
absl::Status LinkServer::Add(const ExpertDescription& expert, int base_begin) {
  return impl_->Add(expert, base_begin);
}
absl::Status LinkServer::Pop(const runtime::ExpertKey& expert) { return impl_->Pop(expert); }
bool LinkServer::Drain(absl::Duration timeout) { return impl_->Drain(timeout); }
void LinkServer::Stop() { impl_->Stop(); }

}  // namespace ccoe::rpc
