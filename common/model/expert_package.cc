#include "common/model/expert_package.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <tuple>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/digest.h"
#include "common/model/errors.h"
#include "common/model/lora_adapter.h"
#include "common/model/mapped_file.h"
#include "common/model/safetensors.h"
#include "common/model/tensor_table.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kManifestFile = "/expert.json";
constexpr std::string_view kAdapterConfigFile = "/adapter_config.json";
constexpr std::string_view kNorm = "model.norm.weight";
constexpr std::string_view kHead = "lm_head.weight";
constexpr size_t kMaxPackages = 1024;

bool HasManifest(const std::string& folder) {
  std::error_code ignored;
  return fs::exists(Cat(folder, kManifestFile), ignored);
}

absl::Status Unfit(const ExpertManifest& manifest, const std::string& reason) {
  return absl::FailedPreconditionError(Cat("the expert ", manifest.name, " ", manifest.version,
                                           " does not fit the base model: ", reason));
}

// What an expert needs of its base: layers [0, attach_depth), or also what lies above.
enum class BaseUse { kPrefix, kWhole };

// Every digest that the package pins has to be the model's, and it has to pin what it uses.
absl::Status CheckDigests(const ExpertManifest& manifest, BaseUse use, const Model& model) {
  const ExpertBase& base = manifest.base;
  if (base.digest.empty() && (use == BaseUse::kWhole || base.prefix_digest.empty())) {
    return Unfit(manifest,
                 Cat("its expert.json pins no base.digest; if it was made for this model, "
                     "write \"",
                     model.digest(), "\" there"));
  }
  const auto compare = [&](std::string_view what, const std::string& pinned,
                           const std::string& actual) {
    if (pinned.empty() || pinned == actual) return absl::OkStatus();
    return Unfit(manifest, Cat("it was made for ", base.name, " with the ", what, " ", pinned,
                               ", this is ", model.config().name, " with ", actual));
  };
  if (!base.prefix_digest.empty()) {
    CCOE_RETURN_IF_ERROR(
        compare("prefix digest", base.prefix_digest, model.PrefixDigest(manifest.attach_depth)));
  }
  return compare("digest", base.digest, base.digest.empty() ? "" : model.digest());
}

// The tensors of a full package: layers from the attach depth on, perhaps the final norm and head.
absl::Status CheckFullTensors(const TensorTable& tensors, const ModelConfig& config,
                              int attach_depth) {
  std::vector<TensorShape> shapes;
  for (int layer = attach_depth; layer < config.layers; ++layer) {
    for (TensorShape& shape : LayerTensors(config, layer)) shapes.push_back(std::move(shape));
  }
  if (tensors.contains(kNorm)) shapes.push_back({std::string(kNorm), 1, config.hidden});
  if (tensors.contains(kHead)) shapes.push_back({std::string(kHead), config.vocab, config.hidden});
  for (const TensorShape& shape : shapes) CCOE_RETURN_IF_ERROR(CheckTensor(tensors, shape));
  const std::optional<std::string> unexpected = FindUnexpected(tensors, shapes);
  if (!unexpected.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("the tensor \"", unexpected->substr(0, 200),
                                        "\" is not one of layers ", attach_depth, " to ",
                                        config.layers - 1, ", the final norm or the head"));
}

absl::Status CheckManifestAgainst(const ExpertManifest& manifest, const ModelConfig& config) {
  if (manifest.attach_depth >= config.layers) {
    return Unfit(manifest, Cat("it attaches at depth ", manifest.attach_depth, " of ",
                               config.layers, " layers"));
  }
  if (manifest.row.has_value() &&
      manifest.row->weights.size() != static_cast<size_t>(config.hidden)) {
    return Unfit(manifest, Cat("its gate row has ", manifest.row->weights.size(),
                               " weights for a hidden size of ", config.hidden));
  }
  for (const ExpertExample& example : manifest.examples) {
    for (const int32_t id : example.token_ids) {
      if (id >= config.vocab) {
        return Unfit(manifest, Cat("an example has token ", id, " of ", config.vocab));
      }
    }
  }
  return absl::OkStatus();
}

std::string HashWeights(absl::Span<const std::byte> bytes, const ExpertLoadOptions& options) {
  constexpr size_t kPiece = size_t{8} << 20;
  Sha256 hash;
  for (size_t done = 0; done < bytes.size();) {
    const absl::Span<const std::byte> piece = bytes.subspan(done, kPiece);
    hash.Update(piece);
    done += piece.size();
    if (options.progress) {
      options.progress(static_cast<double>(done) / static_cast<double>(bytes.size()));
    }
  }
  return hash.FinishHex();
}

}  // namespace

struct ExpertPackage::State {
  std::string folder;
  ExpertManifest manifest;
  std::string digest;
  std::shared_ptr<const MappedFile> weights;
  TensorTable tensors;
  LoraTable lora;  // views of `tensors`; empty for full packages
};

ExpertPackage::ExpertPackage(std::unique_ptr<const State> state) : state_(std::move(state)) {}
ExpertPackage::~ExpertPackage() = default;

absl::StatusOr<std::shared_ptr<const ExpertPackage>> ExpertPackage::Load(
    const std::string& folder, const ExpertLoadOptions& options) {
  auto state = std::make_unique<State>();
  state->folder = folder;
  const std::string manifest_path = Cat(folder, kManifestFile);
  CCOE_ASSIGN_OR_RETURN(const auto manifest_file, MappedFile::Open(manifest_path));
  CCOE_ASSIGN_OR_RETURN(state->manifest, ParseExpertManifest(manifest_file->text(), manifest_path));
  if (options.on_manifest) options.on_manifest(state->manifest);
  const std::string weights_path = Cat(folder, "/", state->manifest.weights);
  CCOE_ASSIGN_OR_RETURN(state->weights, MappedFile::Open(weights_path));
  CCOE_ASSIGN_OR_RETURN(state->tensors, ParseSafetensors(state->weights->bytes(), weights_path));
  std::string hashed = Cat("ccoe.expert.v1\n", Sha256Hex(manifest_file->bytes()), "\n",
                           HashWeights(state->weights->bytes(), options), "\n");
  if (state->manifest.kind == ExpertKind::kLora) {
    const std::string config_path = Cat(folder, kAdapterConfigFile);
    CCOE_ASSIGN_OR_RETURN(const auto config_file, MappedFile::Open(config_path));
    CCOE_ASSIGN_OR_RETURN(const LoraConfig config,
                          ParseLoraConfig(config_file->text(), config_path));
    CCOE_ASSIGN_OR_RETURN(state->lora, MakeLoraTable(state->tensors, config,
                                                     state->manifest.attach_depth, weights_path));
    hashed += Cat(Sha256Hex(config_file->bytes()), "\n");
  }
  state->digest = Cat("sha256:", Sha256Hex(hashed));
  return std::shared_ptr<const ExpertPackage>(new ExpertPackage(std::move(state)));
}

absl::Status ExpertPackage::CheckAgainst(const Model& model) const {
  const ExpertManifest& manifest = state_->manifest;
  const ModelConfig& config = model.config();
  CCOE_RETURN_IF_ERROR(CheckManifestAgainst(manifest, config));
  const bool lora = manifest.kind == ExpertKind::kLora;
  const bool own_end = state_->tensors.contains(kNorm) && state_->tensors.contains(kHead);
  CCOE_RETURN_IF_ERROR(
      CheckDigests(manifest, lora || !own_end ? BaseUse::kWhole : BaseUse::kPrefix, model));
  absl::Status status = lora ? CheckLoraShapes(state_->lora, config)
                             : CheckFullTensors(state_->tensors, config, manifest.attach_depth);
  if (status.ok()) return status;
  return Unfit(manifest, std::string(status.message()));
}

const ExpertManifest& ExpertPackage::manifest() const { return state_->manifest; }
const std::string& ExpertPackage::folder() const { return state_->folder; }
void ExpertPackage::ReleasePages() const { state_->weights->ReleasePages(); }
const std::string& ExpertPackage::digest() const { return state_->digest; }
size_t ExpertPackage::weight_bytes() const { return state_->weights->bytes().size(); }

std::optional<LoraPair> ExpertPackage::Lora(int layer, std::string_view module) const {
  const auto found = state_->lora.find({layer, std::string(module)});
  if (found == state_->lora.end()) return std::nullopt;
  return found->second;
}

std::optional<base::TensorView> ExpertPackage::Tensor(std::string_view hf_name) const {
  if (state_->manifest.kind == ExpertKind::kLora) return std::nullopt;
  const auto found = state_->tensors.find(hf_name);
  if (found == state_->tensors.end()) return std::nullopt;
  return found->second;
}

const TensorTable& ExpertPackage::tensors() const { return state_->tensors; }

std::optional<float> ExpertPackage::lora_scale() const {
  if (state_->lora.empty()) return std::nullopt;
  return state_->lora.begin()->second.scale;
}

std::vector<std::string> PackageFiles(const ExpertManifest& manifest) {
  std::vector<std::string> names = {std::string(kManifestFile.substr(1)), manifest.weights};
  if (manifest.kind == ExpertKind::kLora) names.emplace_back(kAdapterConfigFile.substr(1));
  return names;
}

absl::Status CheckExpertFolder(const std::string& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    return absl::NotFoundError(Cat("there is no folder ", folder));
  }
  if (!HasManifest(folder)) return absl::OkStatus();
  fs::path package = fs::absolute(folder, ignored).lexically_normal();
  if (!package.has_filename()) package = package.parent_path();  // it ended with a slash
  return Damaged(folder, "an expert package itself; name the folder that holds it: ",
                 package.parent_path().string());
}

absl::StatusOr<std::vector<std::shared_ptr<const ExpertPackage>>> LoadExpertFolder(
    const std::string& folder) {
  CCOE_RETURN_IF_ERROR(CheckExpertFolder(folder));
  std::error_code error;
  std::vector<std::string> paths;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (HasManifest(it->path().string())) paths.push_back(it->path().string());
  }
  if (error) return absl::ErrnoToStatus(error.value(), folder);
  if (paths.size() > kMaxPackages) return Damaged(folder, "more than ", kMaxPackages, " packages");
  std::sort(paths.begin(), paths.end());
  std::vector<std::shared_ptr<const ExpertPackage>> packages;
  for (const std::string& path : paths) {
    CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const ExpertPackage> package, ExpertPackage::Load(path));
    packages.push_back(std::move(package));
  }
  const auto key = [](const std::shared_ptr<const ExpertPackage>& package) {
    return std::tie(package->manifest().name, package->manifest().version);
  };
  std::stable_sort(packages.begin(), packages.end(),
                   [&](const auto& a, const auto& b) { return key(a) < key(b); });
  const auto twin =
      std::adjacent_find(packages.begin(), packages.end(),
                         [&](const auto& a, const auto& b) { return key(a) == key(b); });
  if (twin != packages.end()) {
    return Damaged((*twin)->folder(), "has the same name and version as ", (*(twin + 1))->folder());
  }
  return packages;
}

}  // namespace ccoe::model
