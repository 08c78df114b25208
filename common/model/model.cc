#include "common/model/model.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/model/digest.h"
#include "common/model/errors.h"
#include "common/model/gguf_model.h"
#include "common/model/hf_folder.h"
#include "common/model/model_parts.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr unsigned kMaxHashThreads = 16;

// Runs work(0) ... work(count - 1) on all cores.
template <typename Work>
void InParallel(size_t count, const Work& work) {
  std::atomic<size_t> next = 0;
  const auto run = [&] {
    for (size_t i; (i = next.fetch_add(1)) < count;) work(i);
  };
  std::vector<std::thread> threads;
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 1u, kMaxHashThreads);
  try {
    for (unsigned i = 1; i < cores; ++i) threads.emplace_back(run);
  } catch (const std::system_error&) {
    // No more threads to be had: those that there are do the work.
  }
  run();
  for (std::thread& thread : threads) thread.join();
}

std::string DescribeTensor(const TensorShape& shape, const base::TensorView& view) {
  return Cat(shape.name, " ", base::InfoOf(view.dtype).name, " ", view.rows, "x", view.cols, " ",
             Sha256Hex(view.data), "\n");
}

absl::StatusOr<ModelParts> ReadParts(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return ReadHfFolder(path);
  return ReadGgufModel(path);
}

}  // namespace

struct Model::State {
  std::string path;
  ModelConfig config;
  std::unique_ptr<const Tokenizer> tokenizer;
  ChatTemplate chat_template;
  TensorTable tensors;
  std::vector<TensorShape> shapes;  // in canonical order
  size_t weight_bytes = 0;
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<std::unique_ptr<std::byte[]>> copies;

  std::once_flag hashed;
  std::vector<std::string> lines;  // of the manifest, one for each of `shapes`
  std::string digest;

  // The manifest's lines for the whole model; the first call reads all weights.
  const std::vector<std::string>& Lines();
  std::string HashManifest(std::string_view scope, size_t tensor_count);
};

const std::vector<std::string>& Model::State::Lines() {
  std::call_once(hashed, [this] {
    lines.resize(shapes.size());
    InParallel(shapes.size(), [this](size_t i) {
      lines[i] = DescribeTensor(shapes[i], tensors.find(shapes[i].name)->second);
    });
    digest = HashManifest("model", lines.size());
  });
  return lines;
}

std::string Model::State::HashManifest(std::string_view scope, size_t tensor_count) {
  Sha256 hash;
  hash.Update(
      Cat("ccoe.model.v1 ", scope, "\n", config.CanonicalJson(), "\n", tokenizer->digest(), "\n"));
  for (size_t i = 0; i < tensor_count; ++i) hash.Update(lines[i]);
  return Cat("sha256:", hash.FinishHex());
}

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;

absl::StatusOr<std::shared_ptr<const Model>> Model::Load(const std::string& path,
                                                         const LoadOptions& options) {
  const auto progress = [&options](double done) {
    if (options.progress) options.progress(done);
  };
  progress(0);
  CCOE_ASSIGN_OR_RETURN(ModelParts parts, ReadParts(path));
  progress(0.5);
  if (absl::Status status = CheckModelTensors(parts.tensors, parts.config); !status.ok())
    return At(path, status);
  auto state = std::make_unique<State>();
  absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer =
      Tokenizer::Create(std::move(parts.tokenizer));
  if (!tokenizer.ok()) return At(Cat(path, ": tokenizer"), tokenizer.status());
  state->tokenizer = *std::move(tokenizer);
  if (state->tokenizer->vocab_size() > parts.config.vocab) {
    return Damaged(path, "the tokenizer has ", state->tokenizer->vocab_size(),
                   " tokens, the embedding ", parts.config.vocab, " rows");
  }
  state->chat_template = ChatTemplate::Recognise(parts.chat_template);
  if (!options.chat_template.empty()) {
    CCOE_ASSIGN_OR_RETURN(state->chat_template, ChatTemplate::ByName(options.chat_template));
  }
  state->path = path;
  state->config = std::move(parts.config);
  state->tensors = std::move(parts.tensors);
  state->shapes = ModelTensors(state->config);
  for (const auto& [name, view] : state->tensors) state->weight_bytes += view.data.size();
  state->files = std::move(parts.files);
  state->copies = std::move(parts.copies);
  progress(1);
  return std::shared_ptr<const Model>(new Model(std::move(state)));
}

const ModelConfig& Model::config() const { return state_->config; }
const Tokenizer& Model::tokenizer() const { return *state_->tokenizer; }
const ChatTemplate& Model::chat_template() const { return state_->chat_template; }
const std::string& Model::path() const { return state_->path; }
size_t Model::weight_bytes() const { return state_->weight_bytes; }

absl::StatusOr<base::TensorView> Model::Tensor(std::string_view hf_name) const {
  if (hf_name == kHead && state_->config.tied_embeddings) hf_name = kEmbedding;
  const auto found = state_->tensors.find(hf_name);
  if (found == state_->tensors.end()) {
    return absl::NotFoundError(Cat(state_->path, ": no tensor \"", hf_name, "\""));
  }
  return found->second;
}

bool Model::HasTensor(std::string_view hf_name) const { return Tensor(hf_name).ok(); }

const std::string& Model::digest() const {
  state_->Lines();
  return state_->digest;
}

std::string Model::PrefixDigest(int k) const {
  CCOE_CHECK(k >= 0 && k <= state_->config.layers);
  state_->Lines();
  const size_t per_layer = LayerTensors(state_->config, 0).size();
  return state_->HashManifest(Cat("prefix ", k), 1 + per_layer * static_cast<size_t>(k));
}

void Model::ReleasePages() const {
  for (const auto& file : state_->files) file->ReleasePages();
  malloc_trim(0);
}

}  // namespace ccoe::model
