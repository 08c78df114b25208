#include "common/model/tensor_table.h"

#include <set>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/text.h"

namespace ccoe::model {

std::vector<TensorShape> LayerTensors(const ModelConfig& config, int layer) {
  const int64_t hidden = config.hidden, head_dim = config.head_dim, ffn = config.ffn;
  const int64_t q = config.heads * head_dim, kv = config.kv_heads * head_dim;
  std::vector<TensorShape> tensors;
  const auto add = [&](std::string_view name, int64_t rows, int64_t cols) {
    tensors.push_back({Cat("model.layers.", layer, ".", name), rows, cols});
  };
  add("input_layernorm.weight", 1, hidden);
  add("self_attn.q_proj.weight", q, hidden);
  add("self_attn.k_proj.weight", kv, hidden);
  add("self_attn.v_proj.weight", kv, hidden);
  if (config.qkv_bias) {
    add("self_attn.q_proj.bias", 1, q);
    add("self_attn.k_proj.bias", 1, kv);
    add("self_attn.v_proj.bias", 1, kv);
  }
  if (config.qk_norm) {
    add("self_attn.q_norm.weight", 1, head_dim);
    add("self_attn.k_norm.weight", 1, head_dim);
  }
  add("self_attn.o_proj.weight", hidden, q);
  add("post_attention_layernorm.weight", 1, hidden);
  add("mlp.gate_proj.weight", ffn, hidden);
  add("mlp.up_proj.weight", ffn, hidden);
  add("mlp.down_proj.weight", hidden, ffn);
  return tensors;
}

std::vector<TensorShape> ModelTensors(const ModelConfig& config) {
  std::vector<TensorShape> tensors = {{"model.embed_tokens.weight", config.vocab, config.hidden}};
  for (int layer = 0; layer < config.layers; ++layer) {
    for (TensorShape& tensor : LayerTensors(config, layer)) tensors.push_back(std::move(tensor));
  }
  tensors.push_back({"model.norm.weight", 1, config.hidden});
  if (!config.tied_embeddings) tensors.push_back({"lm_head.weight", config.vocab, config.hidden});
  return tensors;
}

absl::Status CheckTensor(const TensorTable& table, const TensorShape& expected) {
  const auto found = table.find(expected.name);
  if (found == table.end()) {
    return absl::InvalidArgumentError(Cat("the tensor \"", expected.name, "\" is missing"));
  }
  const base::TensorView& view = found->second;
  if (view.rows != expected.rows || view.cols != expected.cols) {
    return absl::InvalidArgumentError(Cat("the tensor \"", expected.name, "\" is ", view.rows, "x",
                                          view.cols, "; expected ", expected.rows, "x",
                                          expected.cols));
  }
  if (expected.rows == 1 && base::InfoOf(view.dtype).block_elements != 1) {
    return absl::InvalidArgumentError(Cat("the tensor \"", expected.name, "\" is ",
                                          base::InfoOf(view.dtype).name,
                                          "; a vector has to be f32, f16 or bf16"));
  }
  return absl::OkStatus();
}

std::optional<std::string> FindUnexpected(const TensorTable& table,
                                          absl::Span<const TensorShape> expected) {
  std::set<std::string_view> names;
  for (const TensorShape& shape : expected) names.insert(shape.name);
  for (const auto& entry : table) {
    if (!names.contains(entry.first)) return entry.first;
  }
  return std::nullopt;
}

absl::Status CheckModelTensors(const TensorTable& table, const ModelConfig& config) {
  const std::vector<TensorShape> shapes = ModelTensors(config);
  for (const TensorShape& shape : shapes) CCOE_RETURN_IF_ERROR(CheckTensor(table, shape));
  const std::optional<std::string> unexpected = FindUnexpected(table, shapes);
  if (!unexpected.has_value()) return absl::OkStatus();
  return absl::UnimplementedError(Cat("the tensor \"", unexpected->substr(0, 200),
                                      "\" is no part of the ", FamilyName(config.family),
                                      " architecture as it is supported"));
}

}  // namespace ccoe::model
