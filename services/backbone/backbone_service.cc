#include "services/backbone/backbone_service.h"

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "ccoe/internal/v1/session.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_session.h"
#include "common/rpc/status.h"
#include "common/runtime/prompt.h"
#include "services/backbone/session_call.h"

namespace ccoe::backbone {
namespace {

using internal::v1::WatchResponse;

constexpr absl::Duration kWatchInterval = absl::Milliseconds(500);

class Watcher;

// What the service's calls share.
struct Shared {
  BackboneServiceOptions options;
  SessionCallOptions sessions;
  std::atomic<uint64_t> experts_version{1};
  std::atomic<bool> draining{false};

  base::Mutex mutex;
  std::set<Watcher*> watchers ABSL_GUARDED_BY(mutex);
};

void FillLoad(const runtime::EngineStats& stats, internal::v1::EngineLoad* load) {
  load->set_sessions_running(stats.sessions_running);
  load->set_sessions_waiting(stats.sessions_waiting);
  load->set_kv_pages_total(stats.kv_pages_total);
  load->set_kv_pages_used(stats.kv_pages_used);
  load->set_kv_pages_cached(stats.kv_pages_cached);
  load->set_kv_page_bytes(static_cast<int64_t>(stats.kv_page_bytes));
  load->set_weights_bytes(static_cast<int64_t>(stats.weights_bytes));
  load->set_boundary_bytes_used(static_cast<int64_t>(stats.boundary_bytes_used));
}

// One Watch call: writes the state, waits for a change or an interval, and so on. Deletes itself
// when gRPC and its timer are done.
class Watcher final : public grpc::ServerWriteReactor<WatchResponse> {
 public:
  explicit Watcher(Shared& shared) : shared_(shared) {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.watchers.insert(this);
    }
    base::MutexLock lock(&mutex_);
    Write();
  }

  // Something changed.
  void Wake() {
    base::MutexLock lock(&mutex_);
    if (alarm_ != nullptr) alarm_->Cancel();
  }

  void End(const absl::Status& status) {
    base::MutexLock lock(&mutex_);
    if (ending_) return;
    ending_ = true;
    end_status_ = status;
    if (alarm_ != nullptr) alarm_->Cancel();
    if (!writing_) Finish(rpc::ToGrpcStatus(end_status_));
  }

  void OnWriteDone(bool ok) override {
    base::MutexLock lock(&mutex_);
    writing_ = false;
    if (ending_) return Finish(rpc::ToGrpcStatus(end_status_));
    if (!ok) return;  // OnCancel follows
    Wait();
  }

  void OnCancel() override { End(absl::CancelledError("the router ended the call")); }

  void OnDone() override {
    {
      base::MutexLock lock(&shared_.mutex);
      shared_.watchers.erase(this);
    }
    Unref();
  }

 private:
  ~Watcher() override = default;
  void Unref() {
    if (refs_.fetch_sub(1) == 1) delete this;
  }

  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    response_.Clear();
    const uint64_t version = shared_.experts_version;
    if (version == written_version_) {
      response_.set_experts_unchanged(true);
    } else {
      written_version_ = version;
      for (internal::v1::ExpertStatus& expert : shared_.options.experts->List()) {
        *response_.add_experts() = std::move(expert);
      }
      for (internal::v1::ExpertProcess& process : shared_.options.experts->Processes()) {
        *response_.add_processes() = std::move(process);
      }
    }
    FillLoad(shared_.options.engine->Stats(), response_.mutable_load());
    response_.set_draining(shared_.draining);
    written_draining_ = response_.draining();
    writing_ = true;
    StartWrite(&response_);
  }

  void Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool stale =
        shared_.experts_version != written_version_ || shared_.draining != written_draining_;
    alarm_ = std::make_unique<grpc::Alarm>();
    refs_.fetch_add(1);
    const absl::Time next = absl::Now() + (stale ? absl::ZeroDuration() : kWatchInterval);
    alarm_->Set(absl::ToChronoTime(next), [this](bool) {
      {
        base::MutexLock lock(&mutex_);
        if (!ending_) Write();
      }
      Unref();
    });
  }

  Shared& shared_;
  std::atomic<int> refs_{1};
  base::Mutex mutex_;
  WatchResponse response_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  uint64_t written_version_ ABSL_GUARDED_BY(mutex_) = 0;
  bool written_draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::vector<int32_t>> Encode(const model::Model& model,
                                            const internal::v1::PromptInput& input) {
  CCOE_ASSIGN_OR_RETURN(const runtime::PromptInput decoded, rpc::DecodeInput(input));
  CCOE_ASSIGN_OR_RETURN(runtime::EncodedPrompt encoded, runtime::EncodePrompt(model, decoded));
  return std::move(encoded.ids);
}

grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(rpc::ToGrpcStatus(status));
  return reactor;
}

}  // namespace

class BackboneService::Impl final : public internal::v1::BackboneService::CallbackService {
 public:
  explicit Impl(BackboneServiceOptions options) {
    shared_.options = std::move(options);
    shared_.sessions.engine = shared_.options.engine;
    shared_.sessions.model = shared_.options.model.get();
    shared_.sessions.max_context = shared_.options.identity.max_context;
  }

  grpc::ServerBidiReactor<internal::v1::SessionRequest, internal::v1::SessionResponse>* Session(
      grpc::CallbackServerContext* context) override {
    return new SessionCall(shared_.sessions, *context);
  }

  grpc::ServerWriteReactor<WatchResponse>* Watch(grpc::CallbackServerContext* /*context*/,
                                                 const internal::v1::WatchRequest*) override {
    return new Watcher(shared_);
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const internal::v1::GetModelRequest*,
                                     internal::v1::GetModelResponse* response) override {
    const model::ModelConfig& config = model().config();
    const rpc::LinkIdentity& identity = shared_.options.identity;
    response->set_name(config.name);
    response->set_family(std::string(model::FamilyName(config.family)));
    response->set_digest(identity.base_digest);
    response->set_arithmetic(identity.arithmetic);
    response->set_layers(identity.layers);
    response->set_hidden(identity.hidden);
    response->set_vocab(identity.vocab);
    response->set_max_context(identity.max_context);
    response->set_layer_begin(identity.layer_begin);
    response->set_layer_end(identity.layer_end);
    response->set_chat_template(std::string(model().chat_template().name()));
    response->set_server_version(shared_.options.version);
    return Done(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetVocabulary(grpc::CallbackServerContext* context,
                                          const internal::v1::GetVocabularyRequest*,
                                          internal::v1::GetVocabularyResponse* response) override {
    const model::Tokenizer& tokenizer = model().tokenizer();
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      response->add_pieces(std::string(tokenizer.TokenBytes(id)));
    }
    return Done(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const internal::v1::TokenizeRequest* request,
                                     internal::v1::TokenizeResponse* response) override {
    const auto ids = Encode(model(), request->input());
    if (!ids.ok()) return Done(context, ids.status());
    for (int32_t id : *ids) {
      response->add_ids(id);
      response->add_pieces(std::string(model().tokenizer().TokenBytes(id)));
    }
    return Done(context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context,
                                        const internal::v1::CountTokensRequest* request,
                                        internal::v1::CountTokensResponse* response) override {
    const auto ids = Encode(model(), request->input());
    if (!ids.ok()) return Done(context, ids.status());
    response->set_count(static_cast<int32_t>(ids->size()));
    return Done(context, absl::OkStatus());
  }

  void ExpertsChanged() {
    ++shared_.experts_version;
    WakeAll();
  }

  void SetDraining() {
    shared_.draining = true;
    WakeAll();
  }

  void EndWatches() {
    base::MutexLock lock(&shared_.mutex);
    for (Watcher* watcher : shared_.watchers) {
      watcher->End(base::MakeError(base::Reason::kDraining, "the backbone is stopping"));
    }
  }

 private:
  const model::Model& model() const { return *shared_.options.model; }

  void WakeAll() {
    base::MutexLock lock(&shared_.mutex);
    for (Watcher* watcher : shared_.watchers) watcher->Wake();
  }

  Shared shared_;
};

BackboneService::BackboneService(BackboneServiceOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
BackboneService::~BackboneService() = default;

grpc::Service* BackboneService::service() { return impl_.get(); }
void BackboneService::ExpertsChanged() { impl_->ExpertsChanged(); }
void BackboneService::SetDraining() { impl_->SetDraining(); }
void BackboneService::EndWatches() { impl_->EndWatches(); }

}  // namespace ccoe::backbone
