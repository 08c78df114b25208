#include "common/runtime/weights.h"

#include <array>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace ccoe::runtime {
namespace {

constexpr std::array<const char*, kProjections> kModules = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

// Finds a tensor by its Hugging Face name.
using Lookup = std::function<absl::StatusOr<base::TensorView>(const std::string&)>;
// Packs the matrix of that name.
using MatrixLoader =
    std::function<absl::StatusOr<std::unique_ptr<compute::Matrix>>(const std::string&)>;

std::string LayerPrefix(int layer) { return absl::StrCat("model.layers.", layer, "."); }

std::string ModulePath(int layer, int projection) {
  return absl::StrCat(LayerPrefix(layer), projection <= kO ? "self_attn." : "mlp.",
                      kModules[projection]);
}

absl::StatusOr<std::unique_ptr<compute::Buffer>> LoadVector(compute::Device& device,
                                                            const Lookup& lookup,
                                                            const std::string& name) {
  CCOE_ASSIGN_OR_RETURN(const base::TensorView view, lookup(name));
  return device.PackVector(view);
}

absl::StatusOr<LayerWeights> LoadLayer(const model::ModelConfig& config, int layer,
                                       const Lookup& lookup, const MatrixLoader& load_matrix,
                                       compute::Device& device) {
  LayerWeights weights;
  for (int p = 0; p < kProjections; ++p) {
    CCOE_ASSIGN_OR_RETURN(weights.projections[p],
                          load_matrix(absl::StrCat(ModulePath(layer, p), ".weight")));
    if (p <= kV && config.qkv_bias) {
      CCOE_ASSIGN_OR_RETURN(
          weights.biases[p],
          LoadVector(device, lookup, absl::StrCat(ModulePath(layer, p), ".bias")));
    }
  }
  const std::string prefix = LayerPrefix(layer);
  CCOE_ASSIGN_OR_RETURN(weights.input_norm,
                        LoadVector(device, lookup, prefix + "input_layernorm.weight"));
  CCOE_ASSIGN_OR_RETURN(weights.post_attention_norm,
                        LoadVector(device, lookup, prefix + "post_attention_layernorm.weight"));
  if (config.qk_norm) {
    CCOE_ASSIGN_OR_RETURN(weights.q_norm,
                          LoadVector(device, lookup, prefix + "self_attn.q_norm.weight"));
    CCOE_ASSIGN_OR_RETURN(weights.k_norm,
                          LoadVector(device, lookup, prefix + "self_attn.k_norm.weight"));
  }
  return weights;
}

Lookup OfModel(const model::Model& model) {
  return [&model](const std::string& name) { return model.Tensor(name); };
}

absl::StatusOr<std::vector<LayerLora>> LoadLora(const model::Model& model,
                                                const model::ExpertPackage& package,
                                                compute::Device& device) {
  std::vector<LayerLora> layers;
  for (int layer = package.manifest().attach_depth; layer < model.config().layers; ++layer) {
    LayerLora& lora = layers.emplace_back();
    for (int p = 0; p < kProjections; ++p) {
      const std::optional<model::LoraPair> pair = package.Lora(layer, kModules[p]);
      if (!pair.has_value()) continue;
      LoraFactors& factors = lora.projections[p].emplace();
      CCOE_ASSIGN_OR_RETURN(factors.a, device.PackFloat(pair->a));
      CCOE_ASSIGN_OR_RETURN(factors.b, device.PackFloat(pair->b));
      factors.scale = pair->scale;
    }
  }
  return layers;
}

}  // namespace

absl::StatusOr<BaseWeights> LoadBase(const model::Model& model, int begin, int end,
                                     compute::Device& device) {
  const model::ModelConfig& config = model.config();
  const Lookup lookup = OfModel(model);
  const MatrixLoader load_matrix =
      [&](const std::string& name) -> absl::StatusOr<std::unique_ptr<compute::Matrix>> {
    CCOE_ASSIGN_OR_RETURN(const base::TensorView view, lookup(name));
    return device.Pack(view);
  };
  BaseWeights weights;
  weights.begin = begin;
  if (begin == 0) {
    CCOE_ASSIGN_OR_RETURN(weights.embedding, load_matrix("model.embed_tokens.weight"));
  }
  for (int layer = begin; layer < end; ++layer) {
    CCOE_ASSIGN_OR_RETURN(LayerWeights loaded,
                          LoadLayer(config, layer, lookup, load_matrix, device));
    weights.layers.push_back(std::move(loaded));
  }
  if (end == config.layers) {
    HeadWeights& head = weights.head.emplace();
    CCOE_ASSIGN_OR_RETURN(head.norm, LoadVector(device, lookup, "model.norm.weight"));
    if (config.tied_embeddings && weights.embedding != nullptr) {
      head.projection = weights.embedding;
    } else {
      CCOE_ASSIGN_OR_RETURN(head.projection, load_matrix("lm_head.weight"));
    }
  }
  return weights;
}

absl::StatusOr<std::unique_ptr<ExpertWeights>> LoadExpert(const ExpertSource& source,
                                                          compute::Device& device) {
  const model::Model& model = source.model;
  const model::ExpertPackage& package = source.package;
  auto weights = std::make_unique<ExpertWeights>();
  weights->attach_depth = package.manifest().attach_depth;
  if (package.manifest().kind == model::ExpertKind::kLora) {
    CCOE_ASSIGN_OR_RETURN(weights->lora, LoadLora(model, package, device));
    return weights;
  }
  // The package's own tensors, and the base model's where it leaves out the norm or the head.
  const Lookup lookup = [&](const std::string& name) -> absl::StatusOr<base::TensorView> {
    if (const auto view = package.Tensor(name); view.has_value()) return *view;
    return model.Tensor(name);
  };
  const MatrixLoader load_matrix =
      [&](const std::string& name) -> absl::StatusOr<std::unique_ptr<compute::Matrix>> {
    CCOE_ASSIGN_OR_RETURN(const base::TensorView view, lookup(name));
    CCOE_ASSIGN_OR_RETURN(const base::TensorView base_view, model.Tensor(name));
    const bool quantize = source.quantize_full && base::IsQuantized(base_view.dtype);
    return quantize ? device.PackAs(view, base_view.dtype) : device.Pack(view);
  };
  for (int layer = weights->attach_depth; layer < model.config().layers; ++layer) {
    CCOE_ASSIGN_OR_RETURN(LayerWeights loaded,
                          LoadLayer(model.config(), layer, lookup, load_matrix, device));
    weights->layers.push_back(std::move(loaded));
  }
  HeadWeights& head = weights->head.emplace();
  CCOE_ASSIGN_OR_RETURN(head.norm, LoadVector(device, lookup, "model.norm.weight"));
  if (!package.Tensor("lm_head.weight").has_value() && source.base.head.has_value()) {
    head.projection = source.base.head->projection;
    weights->shares_projection = true;
    return weights;
  }
  CCOE_ASSIGN_OR_RETURN(head.projection, load_matrix("lm_head.weight"));
  return weights;
}

size_t BytesOf(const std::vector<LayerWeights>& layers) {
  size_t bytes = 0;
  for (const LayerWeights& layer : layers) {
    for (const auto& projection : layer.projections) bytes += projection->bytes();
  }
  return bytes;
}

size_t BytesOf(const BaseWeights& weights) {
  size_t bytes = BytesOf(weights.layers);
  if (weights.embedding != nullptr) bytes += weights.embedding->bytes();
  if (weights.head.has_value() && weights.head->projection != weights.embedding) {
    bytes += weights.head->projection->bytes();
  }
  return bytes;
}

size_t BytesOf(const ExpertWeights& weights) {
  size_t bytes = BytesOf(weights.layers);
  if (weights.head.has_value() && !weights.shares_projection) {
    bytes += weights.head->projection->bytes();
  }
  for (const LayerLora& layer : weights.lora) {
    for (const auto& factors : layer.projections) {
      if (factors.has_value()) bytes += factors->a->bytes() + factors->b->bytes();
    }
  }
  return bytes;
}

}  // namespace ccoe::runtime
