#include "common/model/hf_config.h"

#include <limits>
#include <string>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/json.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

absl::StatusOr<Family> FamilyOf(std::string_view type, std::string_view where) {
  if (type == "llama") return Family::kLlama;
  if (type == "qwen2") return Family::kQwen2;
  if (type == "qwen3") return Family::kQwen3;
  return Unsupported(where, "the model type \"", type.substr(0, 64),
                     "\" is not supported; supported: llama, qwen2, qwen3");
}

absl::Status ReadScaling(const Json& scaling, const std::string& where, int context,
                         RopeConfig* rope) {
  JsonReader reader(scaling, where);
  CCOE_ASSIGN_OR_RETURN(const std::string old_name, reader.StringOr("type", "default"));
  CCOE_ASSIGN_OR_RETURN(const std::string type, reader.StringOr("rope_type", old_name));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return Unsupported(where, "the rope scaling \"", type.substr(0, 64),
                       "\" is not supported; supported: default, linear, llama3");
  }
  CCOE_ASSIGN_OR_RETURN(const double factor, reader.Number("factor"));
  rope->factor = static_cast<float>(factor);
  rope->scaling = RopeScaling::kLinear;
  if (type == "linear") return absl::OkStatus();
  rope->scaling = RopeScaling::kLlama3;
  CCOE_ASSIGN_OR_RETURN(const double low, reader.Number("low_freq_factor"));
  CCOE_ASSIGN_OR_RETURN(const double high, reader.Number("high_freq_factor"));
  CCOE_ASSIGN_OR_RETURN(const int64_t original,
                        reader.IntegerOr("original_max_position_embeddings", context, 1, kMaxInt));
  rope->low_freq_factor = static_cast<float>(low);
  rope->high_freq_factor = static_cast<float>(high);
  rope->original_context = static_cast<int>(original);
  return absl::OkStatus();
}

absl::Status ReadRope(JsonReader* reader, const std::string& where, int context, RopeConfig* rope) {
  // Newer files have both under "rope_parameters".
  const Json* parameters = reader->Find("rope_parameters");
  const Json* scaling = parameters != nullptr ? parameters : reader->Find("rope_scaling");
  if (scaling != nullptr && !scaling->is_object()) {
    return Damaged(where, "the rope parameters are not an object");
  }
  CCOE_ASSIGN_OR_RETURN(double theta, reader->NumberOr("rope_theta", 10000));
  if (scaling != nullptr) {
    JsonReader scaling_reader(*scaling, where);
    CCOE_ASSIGN_OR_RETURN(theta, scaling_reader.NumberOr("rope_theta", theta));
    CCOE_RETURN_IF_ERROR(ReadScaling(*scaling, where, context, rope));
  }
  rope->theta = static_cast<float>(theta);
  return absl::OkStatus();
}

absl::Status RefuseUnsupported(JsonReader* reader, const std::string& where, Family family) {
  const Json* activation = reader->Find("hidden_act");
  if (activation != nullptr && *activation != "silu") {
    return Unsupported(where, "\"hidden_act\" is not supported; supported: \"silu\"");
  }
  // Llama's attention_bias puts one on the output projection too.
  for (const std::string_view flag : {"attention_bias", "mlp_bias", "use_sliding_window"}) {
    CCOE_ASSIGN_OR_RETURN(const bool set, reader->BoolOr(flag, false));
    const bool known = flag == "attention_bias" && family == Family::kQwen2;
    if (set && !known)
      return Unsupported(where, "\"", flag, "\" is not supported; supported: false");
  }
  if (reader->Has("quantization_config")) {
    return Unsupported(where,
                       "\"quantization_config\" is not supported; supported: F32, F16 and "
                       "BF16 safetensors, or a quantised model as GGUF");
  }
  return absl::OkStatus();
}

// "eos_token_id" is an id or an array of them.
absl::Status ReadEndIds(JsonReader* reader, ModelConfig* config) {
  const Json* value = reader->Find("eos_token_id");
  if (value == nullptr) return absl::OkStatus();
  const Json ids = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxInt)) {
      return Damaged(reader->where(), "\"eos_token_id\" has to be a token id or an array of them");
    }
    config->eos_ids.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadShape(JsonReader* reader, ModelConfig* config) {
  const auto read = [reader](std::string_view key, int* value) -> absl::Status {
    CCOE_ASSIGN_OR_RETURN(const int64_t number, reader->Integer(key, 1, kMaxInt));
    *value = static_cast<int>(number);
    return absl::OkStatus();
  };
  CCOE_RETURN_IF_ERROR(read("num_hidden_layers", &config->layers));
  CCOE_RETURN_IF_ERROR(read("hidden_size", &config->hidden));
  CCOE_RETURN_IF_ERROR(read("num_attention_heads", &config->heads));
  CCOE_RETURN_IF_ERROR(read("intermediate_size", &config->ffn));
  CCOE_RETURN_IF_ERROR(read("vocab_size", &config->vocab));
  CCOE_RETURN_IF_ERROR(read("max_position_embeddings", &config->context));
  config->kv_heads = config->heads;
  if (reader->Has("num_key_value_heads")) {
    CCOE_RETURN_IF_ERROR(read("num_key_value_heads", &config->kv_heads));
  }
  config->head_dim = config->family == Family::kQwen3 ? 128 : config->hidden / config->heads;
  if (reader->Has("head_dim")) CCOE_RETURN_IF_ERROR(read("head_dim", &config->head_dim));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view text, std::string_view where_view) {
  const std::string where(where_view);
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kMaxBytes, where));
  JsonReader reader(json, where);
  ModelConfig config;
  CCOE_ASSIGN_OR_RETURN(const std::string type, reader.String("model_type"));
  CCOE_ASSIGN_OR_RETURN(config.family, FamilyOf(type, where));
  CCOE_RETURN_IF_ERROR(RefuseUnsupported(&reader, where, config.family));
  CCOE_RETURN_IF_ERROR(ReadShape(&reader, &config));
  CCOE_ASSIGN_OR_RETURN(const double epsilon, reader.NumberOr("rms_norm_eps", 1e-6));
  config.rms_epsilon = static_cast<float>(epsilon);
  CCOE_ASSIGN_OR_RETURN(config.tied_embeddings, reader.BoolOr("tie_word_embeddings", false));
  config.qkv_bias = config.family == Family::kQwen2;
  config.qk_norm = config.family == Family::kQwen3;
  CCOE_RETURN_IF_ERROR(ReadRope(&reader, where, config.context, &config.rope));
  CCOE_RETURN_IF_ERROR(ReadEndIds(&reader, &config));
  if (absl::Status status = config.Validate(); !status.ok()) return At(where, status);
  return config;
}

absl::Status AddGenerationConfig(std::string_view text, std::string_view where,
                                 ModelConfig* config) {
  CCOE_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kMaxBytes, where));
  JsonReader reader(json, where);
  return ReadEndIds(&reader, config);
}

}  // namespace ccoe::model
