#include "services/router/local_backbone.h"

#include <algorithm>
#include <utility>

#include "common/base/status_macros.h"

namespace ccoe::router {
namespace {

std::shared_ptr<const Catalog> MakeCatalog(const LocalBackboneOptions& options,
                                           const runtime::Engine& engine) {
  const model::ModelConfig& config = options.model->config();
  auto catalog = std::make_shared<Catalog>();
  ModelDescription& model = catalog->model;
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
  for (const runtime::ExpertInfo& info : engine.Experts()) {
    CatalogEntry entry;
    entry.info = info;
    for (const auto& package : options.experts) {
      const model::ExpertManifest& manifest = package->manifest();
      if (runtime::ExpertKey{manifest.name, manifest.version} == info.key) {
        // Shares the package's life.
        entry.manifest = std::shared_ptr<const model::ExpertManifest>(package, &manifest);
      }
    }
    catalog->experts.push_back(std::move(entry));
  }
  return catalog;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalBackbone>> LocalBackbone::Create(LocalBackboneOptions options) {
  for (const auto& package : options.experts) {
    CCOE_RETURN_IF_ERROR(package->CheckAgainst(*options.model));
  }
  runtime::EngineOptions engine_options;
  engine_options.model = options.model;
  CCOE_ASSIGN_OR_RETURN(engine_options.device, compute::NewCpuDevice(options.cpu));
  engine_options.kv_budget_bytes = options.kv_budget_bytes;
  engine_options.max_sessions = options.max_sessions;
  engine_options.max_waiting = options.max_waiting;
  engine_options.max_step_rows = options.max_step_rows;
  engine_options.max_context = options.max_context;
  engine_options.observer = options.observer;
  CCOE_ASSIGN_OR_RETURN(std::unique_ptr<runtime::Engine> engine,
                        runtime::Engine::Create(std::move(engine_options)));
  for (const auto& package : options.experts) {
    CCOE_RETURN_IF_ERROR(engine->AddExpert(package));
  }
  std::shared_ptr<const Catalog> catalog = MakeCatalog(options, *engine);
  options.model->ReleasePages();
  return std::unique_ptr<LocalBackbone>(
      new LocalBackbone(std::move(options.model), std::move(engine), std::move(catalog)));
}

LocalBackbone::LocalBackbone(std::shared_ptr<const model::Model> model,
                             std::unique_ptr<runtime::Engine> engine,
                             std::shared_ptr<const Catalog> catalog)
    : model_(std::move(model)), engine_(std::move(engine)), catalog_(std::move(catalog)) {}

LocalBackbone::~LocalBackbone() = default;

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
  spec.sampling = request.sampling;
  spec.stop = std::move(request.stop);
  spec.queue_deadline = request.queue_deadline;
  CCOE_RETURN_IF_ERROR(
      runtime::EncodeSession(*model_, request.input, catalog_->model.context_tokens, &spec));
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
