#include "services/cli/model_summary.h"

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 14> kLayerTensors = {
    "self_attn.q_proj.weight", "self_attn.k_proj.weight",
    "self_attn.v_proj.weight", "self_attn.o_proj.weight",
    "self_attn.q_proj.bias",   "self_attn.k_proj.bias",
    "self_attn.v_proj.bias",   "self_attn.q_norm.weight",
    "self_attn.k_norm.weight", "mlp.gate_proj.weight",
    "mlp.up_proj.weight",      "mlp.down_proj.weight",
    "input_layernorm.weight",  "post_attention_layernorm.weight"};

struct Tally {
  int tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
};

std::vector<std::string> TensorNames(const model::ModelConfig& config) {
  std::vector<std::string> names = {"model.embed_tokens.weight", "model.norm.weight"};
  if (!config.tied_embeddings) names.emplace_back("lm_head.weight");
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const char* tensor : kLayerTensors) {
      names.push_back(absl::StrCat("model.layers.", layer, ".", tensor));
    }
  }
  return names;
}

// The model's tensors by the format they are stored in.
std::map<std::string, Tally> TallyTensors(const model::Model& model) {
  std::map<std::string, Tally> tallies;
  for (const std::string& name : TensorNames(model.config())) {
    if (!model.HasTensor(name)) continue;
    const auto view = model.Tensor(name);
    if (!view.ok()) continue;
    Tally& tally = tallies[std::string(base::InfoOf(view->dtype).name)];
    tally.tensors += 1;
    tally.elements += view->rows * view->cols;
    tally.bytes += static_cast<int64_t>(view->data.size());
  }
  return tallies;
}

std::string_view ScalingName(model::RopeScaling scaling) {
  switch (scaling) {
    case model::RopeScaling::kNone:
      return "none";
    case model::RopeScaling::kLinear:
      return "linear";
    case model::RopeScaling::kLlama3:
      return "llama3";
    case model::RopeScaling::kFactors:
      return "factors";
  }
  return "none";
}

}  // namespace

Json SummariseModel(const model::Model& model) {
  const model::ModelConfig& config = model.config();
  Json dtypes = Json::object();
  int64_t parameters = 0;
  for (const auto& [name, tally] : TallyTensors(model)) {
    parameters += tally.elements;
    dtypes[name] = {{"tensors", tally.tensors}, {"bytes", tally.bytes}};
  }
  const int64_t kv_bytes = int64_t{2} * config.layers * config.kv_heads * config.head_dim *
                           static_cast<int64_t>(sizeof(float));
  return {
      {"path", model.path()},
      {"name", config.name},
      {"family", model::FamilyName(config.family)},
      {"digest", model.digest()},
      {"parameters", parameters},
      {"layers", config.layers},
      {"hidden", config.hidden},
      {"heads", config.heads},
      {"kv_heads", config.kv_heads},
      {"head_dim", config.head_dim},
      {"ffn", config.ffn},
      {"vocab", config.vocab},
      {"context", config.context},
      {"tied_embeddings", config.tied_embeddings},
      {"rope", {{"theta", config.rope.theta}, {"scaling", ScalingName(config.rope.scaling)}}},
      {"dtypes", dtypes},
      {"weight_bytes", model.weight_bytes()},
      {"kv_bytes_per_token", kv_bytes},
      {"tokenizer",
       {{"vocab", model.tokenizer().vocab_size()}, {"digest", model.tokenizer().digest()}}},
      {"chat_template", model.chat_template().name()},
  };
}

}  // namespace ccoe::cli
