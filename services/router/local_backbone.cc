#include "services/router/local_backbone.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
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

absl::Status TooLong(size_t tokens, size_t limit) {
  return base::MakeError(
      base::Reason::kPromptTooLong,
      absl::StrCat("the prompt has ", tokens, " tokens; at most ", limit, " are allowed"),
      {.metadata = {{"prompt_tokens", absl::StrCat(tokens)},
                    {"max_prompt_tokens", absl::StrCat(limit)}},
       .retry_after = {}});
}

// The tokens of a continuation to score: no beginning-of-text token, no template.
absl::StatusOr<std::vector<int32_t>> EncodeContinuation(const model::Model& model,
                                                        const runtime::PromptInput& input) {
  if (const auto* text = std::get_if<std::string>(&input)) return model.tokenizer().Encode(*text);
  return runtime::EncodePrompt(model, input);
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
  const absl::StatusOr<std::vector<int32_t>> ids = runtime::EncodePrompt(*model_, input);
  if (!ids.ok()) return done(ids.status());
  std::vector<TokenPiece> pieces;
  pieces.reserve(ids->size());
  for (int32_t id : *ids) pieces.push_back({id, TokenBytes(id)});
  done(std::move(pieces));
}

absl::StatusOr<runtime::SessionId> LocalBackbone::Open(SessionRequest request,
                                                       runtime::SessionListener* listener) {
  runtime::SessionSpec spec;
  CCOE_ASSIGN_OR_RETURN(spec.prompt, runtime::EncodePrompt(*model_, request.prompt));
  const auto context = static_cast<size_t>(catalog_->model.context_tokens);
  // Room for one token at least, where one is wanted.
  size_t limit = request.stop.max_tokens > 0 ? context - 1 : context;
  if (request.continuation.has_value()) {
    spec.score_from = static_cast<int>(spec.prompt.size());
    CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> continuation,
                          EncodeContinuation(*model_, *request.continuation));
    spec.prompt.insert(spec.prompt.end(), continuation.begin(), continuation.end());
    limit = context;
  }
  if (request.max_prompt_tokens > 0) {
    limit = std::min(limit, static_cast<size_t>(request.max_prompt_tokens));
  }
  if (spec.prompt.size() > limit) return TooLong(spec.prompt.size(), limit);
  spec.request_id = std::move(request.request_id);
  spec.traceparent = std::move(request.traceparent);
  spec.expert = std::move(request.expert);
  spec.sampling = request.sampling;
  spec.stop = std::move(request.stop);
  spec.stop.max_tokens =
      std::min(spec.stop.max_tokens, static_cast<int>(context - spec.prompt.size()));
  spec.queue_deadline = request.queue_deadline;
  return engine_->Open(std::move(spec), listener);
}

void LocalBackbone::Cancel(runtime::SessionId session, absl::Status why) {
  engine_->Cancel(session, std::move(why));
}
void LocalBackbone::Pause(runtime::SessionId session) { engine_->Pause(session); }
void LocalBackbone::Resume(runtime::SessionId session) { engine_->Resume(session); }

}  // namespace ccoe::router
