#include "services/router/local_backbone.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "services/router/validation.h"

namespace ccoe::router {
namespace {

ModelDescription Describe(const LocalBackboneOptions& options) {
  const model::ModelConfig& config = options.model->config();
  ModelDescription model;
  model.name = config.name;
  model.digest = options.model->digest();
  model.family = std::string(model::FamilyName(config.family));
  model.layers = config.layers;
  model.backbone_layers = config.layers;
  model.hidden = config.hidden;
  model.vocab = config.vocab;
  model.context_tokens =
      options.max_context > 0 ? std::min(options.max_context, config.context) : config.context;
  model.arithmetic = std::string(compute::ArithmeticName(options.cpu.arithmetic));
  model.chat_template = std::string(options.model->chat_template().name());
  return model;
}

CatalogEntry EntryOf(const runtime::ExpertInfo& info) {
  CatalogEntry entry;
  entry.info = info;
  entry.active_requests = std::make_shared<std::atomic<int>>(0);
  return entry;
}

}  // namespace

struct LocalBackbone::Leases {
  base::Mutex mutex;
  runtime::Engine* engine ABSL_GUARDED_BY(mutex) = nullptr;  // null once the backbone goes
};

// Removes an expert from the engine, if that is still there, when it is destroyed.
class LocalBackbone::Lease {
 public:
  Lease(std::shared_ptr<Leases> leases, runtime::ExpertKey key)
      : leases_(std::move(leases)), key_(std::move(key)) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    base::MutexLock lock(&leases_->mutex);
    if (leases_->engine != nullptr) leases_->engine->RemoveExpert(key_).IgnoreError();
  }

 private:
  const std::shared_ptr<Leases> leases_;
  const runtime::ExpertKey key_;
};

absl::StatusOr<std::unique_ptr<LocalBackbone>> LocalBackbone::Create(LocalBackboneOptions options) {
  runtime::EngineOptions engine_options;
  engine_options.model = options.model;
  CCOE_ASSIGN_OR_RETURN(engine_options.device, compute::NewCpuDevice(options.cpu));
  engine_options.kv_budget_bytes = options.kv_budget_bytes;
  engine_options.max_sessions = options.max_sessions;
  engine_options.max_waiting = options.max_waiting;
  engine_options.max_step_rows = options.max_step_rows;
  engine_options.max_context = options.max_context;
  engine_options.prefix_cache = options.prefix_cache;
  engine_options.quantize_experts = options.quantize_experts;
  engine_options.observer = options.observer;
  CCOE_ASSIGN_OR_RETURN(std::unique_ptr<runtime::Engine> engine,
                        runtime::Engine::Create(std::move(engine_options)));
  std::unique_ptr<LocalBackbone> backbone(
      new LocalBackbone(options.model, std::move(engine), Describe(options)));
  for (const auto& package : options.experts) CCOE_RETURN_IF_ERROR(backbone->Push(package, {}));
  options.model->ReleasePages();
  return backbone;
}

LocalBackbone::LocalBackbone(std::shared_ptr<const model::Model> model,
                             std::unique_ptr<runtime::Engine> engine, ModelDescription description)
    : model_(std::move(model)),
      engine_(std::move(engine)),
      leases_(std::make_shared<Leases>()),
      context_tokens_(description.context_tokens) {
  {
    base::MutexLock lock(&leases_->mutex);
    leases_->engine = engine_.get();
  }
  auto catalog = std::make_shared<Catalog>();
  catalog->model = std::move(description);
  for (const runtime::ExpertInfo& info : engine_->Experts()) {
    catalog->experts.push_back(EntryOf(info));
  }
  base::MutexLock lock(&mutex_);
  catalog_ = std::move(catalog);
}

LocalBackbone::~LocalBackbone() {
  base::MutexLock lock(&leases_->mutex);
  leases_->engine = nullptr;
}

std::shared_ptr<const Catalog> LocalBackbone::GetCatalog() const {
  base::MutexLock lock(&mutex_);
  return catalog_;
}

absl::StatusOr<CatalogEntry> LocalBackbone::Check(
    const std::shared_ptr<const model::ExpertPackage>& package) const {
  CCOE_RETURN_IF_ERROR(package->CheckAgainst(*model_));
  const model::ExpertManifest& manifest = package->manifest();
  CatalogEntry entry = EntryOf(engine_->Describe(*package));
  for (const runtime::ExpertInfo& info : engine_->Experts()) {
    if (info.key != entry.info.key) continue;
    return absl::AlreadyExistsError(absl::StrCat("expert ", manifest.name, " ", manifest.version,
                                                 " is served already, or is still leaving"));
  }
  // Shares the package's life.
  entry.manifest = std::shared_ptr<const model::ExpertManifest>(package, &manifest);
  return entry;
}

absl::Status LocalBackbone::Push(const std::shared_ptr<const model::ExpertPackage>& package,
                                 const PushOptions& options) {
  if (!options.nodes.empty()) {
    return InvalidField("nodes", ": this server has no expert processes, it serves by itself");
  }
  CCOE_ASSIGN_OR_RETURN(CatalogEntry entry, Check(package));
  if (options.validate_only) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(engine_->AddExpert(package));
  entry.lease = std::make_shared<const Lease>(leases_, entry.info.key);
  base::MutexLock lock(&mutex_);
  auto catalog = std::make_shared<Catalog>(*catalog_);
  catalog->experts.push_back(std::move(entry));
  catalog_ = std::move(catalog);
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> LocalBackbone::Pop(const runtime::ExpertKey& expert) {
  std::shared_ptr<const Catalog> before;  // goes after the lock
  base::MutexLock lock(&mutex_);
  CCOE_ASSIGN_OR_RETURN(const CatalogEntry* found, FindExpert(*catalog_, expert));
  auto catalog = std::make_shared<Catalog>(*catalog_);
  std::erase_if(catalog->experts,
                [&](const CatalogEntry& entry) { return entry.info.key == found->info.key; });
  before = std::exchange(catalog_, std::move(catalog));
  return absl::ZeroDuration();
}

absl::Status LocalBackbone::SetTraffic(const std::string& domain,
                                       absl::Span<const VersionWeight> weights) {
  base::MutexLock lock(&mutex_);
  auto catalog = std::make_shared<Catalog>(*catalog_);
  CCOE_RETURN_IF_ERROR(SetWeights(domain, weights, catalog.get()));
  catalog_ = std::move(catalog);
  return absl::OkStatus();
}

std::string LocalBackbone::TokenBytes(int32_t id) const {
  return std::string(model_->tokenizer().TokenBytes(id));
}

void LocalBackbone::Tokenize(runtime::PromptInput input, absl::Time /*deadline*/,
                             std::function<void(absl::StatusOr<std::vector<TokenPiece>>)> done) {
  const absl::StatusOr<runtime::EncodedPrompt> encoded = runtime::EncodePrompt(*model_, input);
  if (!encoded.ok()) return done(encoded.status());
  std::vector<TokenPiece> pieces;
  pieces.reserve(encoded->ids.size());
  for (int32_t id : encoded->ids) pieces.push_back({id, TokenBytes(id)});
  done(std::move(pieces));
}

absl::StatusOr<runtime::SessionId> LocalBackbone::Open(SessionRequest request,
                                                       runtime::SessionListener* listener) {
  runtime::SessionSpec spec;
  spec.request_id = std::move(request.request_id);
  spec.traceparent = std::move(request.traceparent);
  spec.expert = std::move(request.expert);
  spec.routing_layer = request.routing_layer;
  spec.flow = std::move(request.flow);
  spec.sampling = request.sampling;
  spec.stop = std::move(request.stop);
  spec.cache_salt = std::move(request.cache_salt);
  spec.queue_deadline = request.queue_deadline;
  CCOE_RETURN_IF_ERROR(runtime::EncodeSession(*model_, request.input, context_tokens_, &spec));
  return engine_->Open(std::move(spec), listener);
}

void LocalBackbone::Decide(runtime::SessionId session, runtime::ExpertKey expert) {
  engine_->Decide(session, std::move(expert));
}
void LocalBackbone::Cancel(runtime::SessionId session, absl::Status why) {
  engine_->Cancel(session, std::move(why));
}
void LocalBackbone::Pause(runtime::SessionId session) { engine_->Pause(session); }
void LocalBackbone::Resume(runtime::SessionId session) { engine_->Resume(session); }

}  // namespace ccoe::router
