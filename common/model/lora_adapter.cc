#include "common/model/lora_adapter.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/json.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr int kMaxRank = 1024;

struct Module {
  std::string_view name;
  std::string_view block;
};

constexpr Module kModules[] = {
    {"q_proj", "self_attn"}, {"k_proj", "self_attn"}, {"v_proj", "self_attn"},
    {"o_proj", "self_attn"}, {"gate_proj", "mlp"},    {"up_proj", "mlp"},
    {"down_proj", "mlp"},
};

struct AdapterTensor {
  int layer = 0;
  std::string_view module;
  bool is_a = false;
};

// base_model.model.model.layers.18.self_attn.q_proj.lora_A.weight
std::optional<AdapterTensor> ParseName(std::string_view name) {
  if (!ConsumePrefix(&name, "base_model.model.model.layers.")) return std::nullopt;
  AdapterTensor tensor;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), tensor.layer);
  if (error != std::errc() || tensor.layer < 0) return std::nullopt;
  name.remove_prefix(static_cast<size_t>(end - name.data()));
  for (const Module& module : kModules) {
    std::string_view rest = name;
    if (!ConsumePrefix(&rest, Cat(".", module.block, ".", module.name, "."))) continue;
    if (rest != "lora_A.weight" && rest != "lora_B.weight") return std::nullopt;
    tensor.module = module.name;
    tensor.is_a = rest == "lora_A.weight";
    return tensor;
  }
  return std::nullopt;
}

// UNIMPLEMENTED when a variant that changes the computation is switched on.
absl::Status RefuseVariants(JsonReader* reader) {
  const std::string& where = reader->where();
  for (const std::string_view flag :
       {"use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "megatron_lora"}) {
    CCOE_ASSIGN_OR_RETURN(const bool set, reader->BoolOr(flag, false));
    if (set) return Unsupported(where, "\"", flag, "\" is not supported; supported: plain LoRA");
  }
  for (const std::string_view key :
       {"modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication",
        "trainable_token_indices", "target_parameters", "alora_invocation_tokens"}) {
    const Json* value = reader->Find(key);
    if (value != nullptr && !value->empty()) {
      return Unsupported(where, "\"", key, "\" is not supported; supported: plain LoRA, one rank");
    }
  }
  const Json* bias = reader->Find("bias");
  if (bias != nullptr && *bias != "none") {
    return Unsupported(where, "\"bias\" is not supported; supported: \"none\"");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoraConfig> ParseLoraConfig(std::string_view text, std::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kMaxConfigBytes, where));
  JsonReader reader(json, where);
  const Json* type = reader.Find("peft_type");
  if (type == nullptr || *type != "LORA") {
    return Unsupported(where, "\"peft_type\" is not supported; supported: \"LORA\"");
  }
  CCOE_RETURN_IF_ERROR(RefuseVariants(&reader));
  CCOE_ASSIGN_OR_RETURN(const int64_t rank, reader.Integer("r", 1, kMaxRank));
  CCOE_ASSIGN_OR_RETURN(const double alpha, reader.Number("lora_alpha"));
  CCOE_ASSIGN_OR_RETURN(const bool rslora, reader.BoolOr("use_rslora", false));
  if (std::abs(alpha) > 1e6) return Damaged(where, "\"lora_alpha\" is beyond a million");
  const double divisor = rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
  return LoraConfig{static_cast<int>(rank), static_cast<float>(alpha / divisor)};
}

absl::StatusOr<LoraTable> MakeLoraTable(const TensorTable& tensors, const LoraConfig& config,
                                        int attach_depth, std::string_view where) {
  LoraTable table;
  for (const auto& [name, view] : tensors) {
    const std::string shown = name.substr(0, 200);
    const std::optional<AdapterTensor> tensor = ParseName(name);
    if (!tensor.has_value()) {
      return Unsupported(where, "the tensor \"", shown,
                         "\" is not lora_A or lora_B of a layer's projection");
    }
    if (tensor->layer < attach_depth) {
      return Damaged(where, "the tensor \"", shown, "\" lies below the attach depth ", attach_depth,
                     "; train layers from there on only");
    }
    if ((tensor->is_a ? view.rows : view.cols) != config.rank) {
      return Damaged(where, "the tensor \"", shown, "\" is ", view.rows, "x", view.cols,
                     ", not of the rank ", config.rank, " of adapter_config.json");
    }
    LoraPair& pair = table[{tensor->layer, std::string(tensor->module)}];
    (tensor->is_a ? pair.a : pair.b) = view;
    pair.scale = config.scale;
  }
  if (table.empty()) return Damaged(where, "there are no adapter tensors");
  for (const auto& [key, pair] : table) {
    if (pair.a.data.empty() || pair.b.data.empty()) {
      return Damaged(where, "layer ", key.first, " ", key.second,
                     " has only one of lora_A, lora_B");
    }
  }
  return table;
}

absl::Status CheckLoraShapes(const LoraTable& table, const ModelConfig& config) {
  for (const auto& [key, pair] : table) {
    const auto& [layer, module] = key;
    if (layer >= config.layers) {
      return absl::FailedPreconditionError(
          Cat("it adapts layer ", layer, " of a model that has ", config.layers));
    }
    for (const TensorShape& shape : LayerTensors(config, layer)) {
      if (!shape.name.ends_with(Cat(".", module, ".weight"))) continue;
      if (pair.a.cols != shape.cols || pair.b.rows != shape.rows) {
        return absl::FailedPreconditionError(
            Cat("its adapter of ", shape.name, " is for a ", pair.b.rows, "x", pair.a.cols,
                " projection; the model's is ", shape.rows, "x", shape.cols));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
