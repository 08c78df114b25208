#include "services/router/remote_backbone.h"

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/internal/v1/session.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "common/rpc/link_session.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"
#include "services/router/remote_catalog.h"
#include "services/router/remote_session.h"

namespace ccoe::router {
namespace {

using internal::v1::BackboneService;
using runtime::SessionId;

// Vocabularies and scores are larger than what others send.
constexpr int kMaxMessageBytes = 32 << 20;

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  return arguments;
}

ModelDescription DescriptionOf(const internal::v1::GetModelResponse& response) {
  ModelDescription model;
  model.name = response.name();
  model.digest = response.digest();
  model.family = response.family();
  model.layers = response.layers();
  model.backbone_layers = response.layer_end();
  model.hidden = response.hidden();
  model.vocab = response.vocab();
  model.context_tokens = response.max_context();
  model.arithmetic = response.arithmetic();
  model.chat_template = response.chat_template();
  return model;
}

runtime::EngineStats StatsOf(const internal::v1::EngineLoad& load) {
  runtime::EngineStats stats;
  stats.sessions_running = load.sessions_running();
  stats.sessions_waiting = load.sessions_waiting();
  stats.kv_pages_total = load.kv_pages_total();
  stats.kv_pages_used = load.kv_pages_used();
  stats.kv_pages_cached = load.kv_pages_cached();
  stats.kv_page_bytes = static_cast<size_t>(load.kv_page_bytes());
  stats.weights_bytes = static_cast<size_t>(load.weights_bytes());
  stats.boundary_bytes_used = static_cast<size_t>(load.boundary_bytes_used());
  return stats;
}

// A unary call with what must live until its end.
template <typename Request, typename Response>
struct UnaryCall {
  grpc::ClientContext context;
  Request request;
  Response response;
};

// A Watch stream; lives until its OnDone.
class Watch final : public grpc::ClientReadReactor<internal::v1::WatchResponse> {
 public:
  Watch(std::function<void(const internal::v1::WatchResponse&)> on_state,
        std::function<void(const grpc::Status&)> on_done)
      : on_state_(std::move(on_state)), on_done_(std::move(on_done)) {}

  void Start(BackboneService::StubInterface& stub, grpc::ClientContext* context) {
    stub.async()->Watch(context, &request_, this);
    StartRead(&response_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    on_state_(response_);
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    on_done_(status);
    delete this;
  }

 private:
  const std::function<void(const internal::v1::WatchResponse&)> on_state_;
  const std::function<void(const grpc::Status&)> on_done_;
  const internal::v1::WatchRequest request_;
  internal::v1::WatchResponse response_;
};

}  // namespace

class RemoteBackbone::Impl {
 public:
  explicit Impl(RemoteBackboneOptions options)
      : options_(std::move(options)),
        stub_(BackboneService::NewStub(
            rpc::MakeChannel(options_.address, options_.credentials, Arguments()))),
        backoff_(options_.min_backoff) {
    base::MutexLock lock(&mutex_);
    health_ = Unreachable("connecting");
    AskModel();
  }

  ~Impl() {
    std::vector<std::shared_ptr<RemoteSession>> sessions;
    {
      base::MutexLock lock(&mutex_);
      stopping_ = true;
      if (context_ != nullptr) context_->TryCancel();
      if (alarm_ != nullptr) alarm_->Cancel();
      for (const auto& [id, session] : sessions_) sessions.push_back(session);
    }
    const absl::Status why =
        base::MakeError(base::Reason::kDraining, "the router is stopping; try another");
    for (const auto& session : sessions) session->Cancel(why);
    sessions.clear();
    base::MutexLock lock(&mutex_);
    while (connecting_ || calls_ > 0 || !sessions_.empty()) idle_.Wait(&mutex_);
  }

  bool WaitForCatalog(const std::function<bool(const Catalog&)>& condition,
                      absl::Duration timeout) {
    const absl::Time deadline = absl::Now() + timeout;
    base::MutexLock lock(&mutex_);
    while (catalog_.Get() == nullptr || !condition(*catalog_.Get())) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      idle_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
    }
    return true;
  }

  std::shared_ptr<const Catalog> GetCatalog() const {
    base::MutexLock lock(&mutex_);
    return catalog_.Get();
  }
  absl::Status SetTraffic(const std::string& domain, absl::Span<const VersionWeight> weights) {
    base::MutexLock lock(&mutex_);
    if (catalog_.Get() == nullptr) return health_;
    return catalog_.SetTraffic(domain, weights);
  }
  void ForgetWeight(const runtime::ExpertKey& expert) {
    base::MutexLock lock(&mutex_);
    catalog_.ForgetWeight(expert);
  }
  const std::string& address() const { return options_.address; }
  absl::Status Health() const {
    base::MutexLock lock(&mutex_);
    return health_;
  }
  runtime::EngineStats Stats() const {
    base::MutexLock lock(&mutex_);
    return stats_;
  }
  std::string TokenBytes(int32_t id) const {
    std::shared_ptr<const internal::v1::GetVocabularyResponse> vocabulary;
    {
      base::MutexLock lock(&mutex_);
      vocabulary = vocabulary_;
    }
    if (vocabulary == nullptr || id < 0 || id >= vocabulary->pieces_size()) return "";
    return vocabulary->pieces(id);
  }

  void Tokenize(const runtime::PromptInput& input, absl::Time deadline,
                std::function<void(absl::StatusOr<std::vector<TokenPiece>>)> done) {
    using Call = UnaryCall<internal::v1::TokenizeRequest, internal::v1::TokenizeResponse>;
    auto call = std::make_shared<Call>();
    rpc::EncodeInput(input, call->request.mutable_input());
    call->context.set_deadline(
        absl::ToChronoTime(std::min(deadline, absl::Now() + options_.call_timeout)));
    {
      base::MutexLock lock(&mutex_);
      ++calls_;
    }
    stub_->async()->Tokenize(
        &call->context, &call->request, &call->response,
        [this, call, done = std::move(done)](const grpc::Status& status) mutable {
          if (!status.ok()) {
            done(rpc::FromGrpcStatus(status));
          } else {
            const internal::v1::TokenizeResponse& response = call->response;
            std::vector<TokenPiece> pieces;
            for (int i = 0; i < std::min(response.ids_size(), response.pieces_size()); ++i) {
              pieces.push_back({response.ids(i), response.pieces(i)});
            }
            done(std::move(pieces));
          }
          call = nullptr;
          base::MutexLock lock(&mutex_);
          --calls_;
          idle_.SignalAll();
        });
  }

  absl::StatusOr<SessionId> Open(const SessionRequest& request,
                                 runtime::SessionListener* listener) {
    std::shared_ptr<RemoteSession> session;
    SessionId id = 0;
    {
      base::MutexLock lock(&mutex_);
      if (stopping_) return base::MakeError(base::Reason::kDraining, "the router is stopping");
      if (!health_.ok()) return health_;
      id = next_session_++;
      session = std::make_shared<RemoteSession>(*listener, [this, id] { Forget(id); });
      sessions_[id] = session;
    }
    session->Start(*stub_, request);
    return id;
  }

  std::shared_ptr<RemoteSession> Find(SessionId id) {
    base::MutexLock lock(&mutex_);
    const auto it = sessions_.find(id);
    return it == sessions_.end() ? nullptr : it->second;
  }

 private:
  absl::Status Unreachable(absl::string_view why) const {
    return base::MakeError(base::Reason::kBackboneUnavailable,
                           absl::StrCat("backbone ", options_.address, ": ", why));
  }

  void Forget(SessionId id) {
    base::MutexLock lock(&mutex_);
    sessions_.erase(id);  // the last one on gRPC's threads; see channel.h
    idle_.SignalAll();
  }

  // A connection is a chain: GetModel, GetVocabulary, Watch until it ends, a pause, and again.
  grpc::ClientContext* NewContext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    connecting_ = true;
    context_ = std::make_unique<grpc::ClientContext>();
    return context_.get();
  }

  void AskModel() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    grpc::ClientContext* context = NewContext();
    context->set_deadline(absl::ToChronoTime(absl::Now() + options_.call_timeout));
    const auto request = std::make_shared<internal::v1::GetModelRequest>();
    const auto response = std::make_shared<internal::v1::GetModelResponse>();
    stub_->async()->GetModel(context, request.get(), response.get(),
                             [this, request, response](const grpc::Status& status) {
                               base::MutexLock lock(&mutex_);
                               if (!status.ok() || stopping_) return Retry(status);
                               const bool known =
                                   vocabulary_ != nullptr && model_.digest == response->digest();
                               model_ = DescriptionOf(*response);
                               known ? StartWatch() : AskVocabulary();
                             });
  }

  void AskVocabulary() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    grpc::ClientContext* context = NewContext();
    context->set_deadline(absl::ToChronoTime(absl::Now() + options_.call_timeout));
    const auto request = std::make_shared<internal::v1::GetVocabularyRequest>();
    const auto response = std::make_shared<internal::v1::GetVocabularyResponse>();
    stub_->async()->GetVocabulary(context, request.get(), response.get(),
                                  [this, request, response](const grpc::Status& status) {
                                    base::MutexLock lock(&mutex_);
                                    if (!status.ok() || stopping_) return Retry(status);
                                    vocabulary_ = response;
                                    StartWatch();
                                  });
  }

  void StartWatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    grpc::ClientContext* context = NewContext();
    auto* watch = new Watch([this](const auto& response) { OnState(response); },
                            [this](const grpc::Status& status) {
                              base::MutexLock lock(&mutex_);
                              Retry(status);
                            });
    watch->Start(*stub_, context);
  }

  void OnState(const internal::v1::WatchResponse& response) {
    std::vector<CatalogEntry> entries = EntriesOf(response);
    base::MutexLock lock(&mutex_);
    if (!response.experts_unchanged()) catalog_.Update(model_, std::move(entries), response);
    if (!health_.ok() && !response.draining()) {
      telemetry::LogInfo("backbone_up", {{"backbone", options_.address}});
    }
    stats_ = StatsOf(response.load());
    health_ = response.draining()
                  ? base::MakeError(base::Reason::kDraining, "the backbone is about to stop")
                  : absl::OkStatus();
    backoff_ = options_.min_backoff;
    idle_.SignalAll();
  }

  void Retry(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (health_.ok() && !stopping_) {
      telemetry::LogWarning("backbone_down",
                            {{"backbone", options_.address}, {"message", status.error_message()}});
    }
    health_ = Unreachable(status.ok() ? "it ended the connection" : status.error_message());
    context_ = nullptr;  // before idle_; see channel.h
    if (stopping_) {
      connecting_ = false;
      idle_.SignalAll();
      return;
    }
    const absl::Duration delay = backoff_ * absl::Uniform(random_, 0.5, 1.0);
    backoff_ = std::min(backoff_ * 2, options_.max_backoff);
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(absl::ToChronoTime(absl::Now() + delay), [this](bool) {
      base::MutexLock lock(&mutex_);
      if (!stopping_) return AskModel();
      connecting_ = false;
      idle_.SignalAll();
    });
  }

  const RemoteBackboneOptions options_;
  const std::unique_ptr<BackboneService::StubInterface> stub_;

  mutable base::Mutex mutex_;
  base::CondVar idle_;
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);  // of the chain's call
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  bool connecting_ ABSL_GUARDED_BY(mutex_) = false;  // a link of the chain is under way
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);
  absl::BitGen random_ ABSL_GUARDED_BY(mutex_);
  ModelDescription model_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const internal::v1::GetVocabularyResponse> vocabulary_ ABSL_GUARDED_BY(mutex_);
  RemoteCatalog catalog_ ABSL_GUARDED_BY(mutex_);
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  runtime::EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  std::map<SessionId, std::shared_ptr<RemoteSession>> sessions_ ABSL_GUARDED_BY(mutex_);
  SessionId next_session_ ABSL_GUARDED_BY(mutex_) = 1;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

RemoteBackbone::RemoteBackbone(RemoteBackboneOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
RemoteBackbone::~RemoteBackbone() = default;

bool RemoteBackbone::WaitUntilReached(absl::Duration timeout) {
  return impl_->WaitForCatalog([](const Catalog&) { return true; }, timeout);
}
bool RemoteBackbone::WaitForCatalog(const std::function<bool(const Catalog&)>& condition,
                                    absl::Duration timeout) {
  return impl_->WaitForCatalog(condition, timeout);
}
absl::Status RemoteBackbone::SetTraffic(const std::string& domain,
                                        absl::Span<const VersionWeight> weights) {
  return impl_->SetTraffic(domain, weights);
}
void RemoteBackbone::ForgetWeight(const runtime::ExpertKey& expert) { impl_->ForgetWeight(expert); }
std::shared_ptr<const Catalog> RemoteBackbone::GetCatalog() const { return impl_->GetCatalog(); }
absl::Status RemoteBackbone::Health() const { return impl_->Health(); }
runtime::EngineStats RemoteBackbone::Stats() const { return impl_->Stats(); }
std::string RemoteBackbone::Address() const { return impl_->address(); }
std::string RemoteBackbone::TokenBytes(int32_t id) const { return impl_->TokenBytes(id); }

void RemoteBackbone::Tokenize(runtime::PromptInput input, absl::Time deadline,
                              std::function<void(absl::StatusOr<std::vector<TokenPiece>>)> done) {
  impl_->Tokenize(input, deadline, std::move(done));
}

absl::StatusOr<SessionId> RemoteBackbone::Open(SessionRequest request,
                                               runtime::SessionListener* listener) {
  return impl_->Open(request, listener);
}

void RemoteBackbone::Decide(SessionId session, runtime::ExpertKey expert) {
  if (const auto found = impl_->Find(session); found != nullptr) found->Decide(expert);
}

void RemoteBackbone::Cancel(SessionId session, absl::Status why) {
  if (const auto found = impl_->Find(session); found != nullptr) found->Cancel(why);
}

void RemoteBackbone::Pause(SessionId session) {
  if (const auto found = impl_->Find(session); found != nullptr) found->Pause();
}

void RemoteBackbone::Resume(SessionId session) {
  if (const auto found = impl_->Find(session); found != nullptr) found->Resume();
}

}  // namespace ccoe::router
