#include "common/model/gguf_model.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/errors.h"
#include "common/model/gguf_tokenizer.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

absl::StatusOr<Family> FamilyOf(std::string_view architecture, std::string_view where) {
  if (architecture == "llama") return Family::kLlama;
  if (architecture == "qwen2") return Family::kQwen2;
  if (architecture == "qwen3") return Family::kQwen3;
  return Unsupported(where, "the architecture \"", architecture,
                     "\" is not supported; supported: llama, qwen2, qwen3");
}

// Reads the metadata under one architecture's prefix ("llama.").
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string_view architecture, std::string_view where)
      : file_(file), prefix_(Cat(architecture, ".")), where_(where) {}

  bool Has(std::string_view key) const { return file_.Has(Cat(prefix_, key)); }

  absl::StatusOr<int> Integer(std::string_view key) const {
    CCOE_ASSIGN_OR_RETURN(const int64_t value, file_.Integer(Cat(prefix_, key)));
    if (value < 0 || value > std::numeric_limits<int>::max()) {
      return Damaged(where_, "\"", prefix_, key, "\" is ", value);
    }
    return static_cast<int>(value);
  }

  absl::StatusOr<int> IntegerOr(std::string_view key, int absent) const {
    if (!Has(key)) return absent;
    return Integer(key);
  }

  absl::StatusOr<float> FloatOr(std::string_view key, double absent) const {
    CCOE_ASSIGN_OR_RETURN(const double value, file_.FloatOr(Cat(prefix_, key), absent));
    return static_cast<float>(value);
  }

  absl::StatusOr<std::string_view> StringOr(std::string_view key, std::string_view absent) const {
    return file_.StringOr(Cat(prefix_, key), absent);
  }

  // UNIMPLEMENTED unless the key is absent or has the expected value.
  absl::Status Require(std::string_view key, int expected) const {
    CCOE_ASSIGN_OR_RETURN(const int value, IntegerOr(key, expected));
    if (value == expected) return absl::OkStatus();
    return Unsupported(where_, "\"", prefix_, key, "\" is ", value, "; supported: ", expected);
  }

 private:
  const GgufFile& file_;
  const std::string prefix_;
  const std::string_view where_;
};

absl::Status ReadRope(const GgufFile& file, const Metadata& metadata, std::string_view where,
                      RopeConfig* rope) {
  CCOE_ASSIGN_OR_RETURN(rope->theta, metadata.FloatOr("rope.freq_base", 10000));
  CCOE_ASSIGN_OR_RETURN(const std::string_view type,
                        metadata.StringOr("rope.scaling.type", "none"));
  if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
    CCOE_ASSIGN_OR_RETURN(rope->factor, metadata.FloatOr("rope.scaling.factor", 1));
  } else if (type != "none") {
    return Unsupported(where, "the rope scaling \"", type,
                       "\" is not supported; supported: none, linear, and Llama 3's factors as ",
                       kRopeFactors);
  }
  const auto factors = file.tensors().find(kRopeFactors);
  if (factors == file.tensors().end()) return absl::OkStatus();
  const base::TensorView& view = factors->second;
  if (view.dtype != base::DType::kF32 || view.rows != 1 || type != "none" || view.cols > 4096) {
    return Unsupported(where, kRopeFactors,
                       " is supported as one f32 vector without other rope scaling");
  }
  rope->scaling = RopeScaling::kFactors;
  rope->frequency_factors.resize(static_cast<size_t>(view.cols));
  std::memcpy(rope->frequency_factors.data(), view.data.data(), view.data.size());
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadConfig(const GgufFile& file, std::string_view where) {
  ModelConfig config;
  CCOE_ASSIGN_OR_RETURN(const std::string_view architecture, file.String("general.architecture"));
  CCOE_ASSIGN_OR_RETURN(config.family, FamilyOf(architecture, where));
  const Metadata metadata(file, architecture, where);
  CCOE_ASSIGN_OR_RETURN(config.layers, metadata.Integer("block_count"));
  CCOE_ASSIGN_OR_RETURN(config.hidden, metadata.Integer("embedding_length"));
  CCOE_ASSIGN_OR_RETURN(config.heads, metadata.Integer("attention.head_count"));
  CCOE_ASSIGN_OR_RETURN(config.kv_heads,
                        metadata.IntegerOr("attention.head_count_kv", config.heads));
  CCOE_ASSIGN_OR_RETURN(config.ffn, metadata.Integer("feed_forward_length"));
  CCOE_ASSIGN_OR_RETURN(config.context, metadata.Integer("context_length"));
  CCOE_ASSIGN_OR_RETURN(config.rms_epsilon,
                        metadata.FloatOr("attention.layer_norm_rms_epsilon", 1e-5));
  const int even_share = config.heads > 0 ? config.hidden / config.heads : 0;
  CCOE_ASSIGN_OR_RETURN(config.head_dim, metadata.IntegerOr("attention.key_length", even_share));
  CCOE_RETURN_IF_ERROR(metadata.Require("attention.value_length", config.head_dim));
  CCOE_RETURN_IF_ERROR(metadata.Require("rope.dimension_count", config.head_dim));
  CCOE_RETURN_IF_ERROR(metadata.Require("expert_count", 0));
  CCOE_ASSIGN_OR_RETURN(const int window,
                        metadata.IntegerOr("attention.sliding_window", config.context));
  if (window != 0 && window < config.context) {
    return Unsupported(where, "sliding-window attention over ", window,
                       " tokens is not supported; supported: full attention");
  }
  config.qkv_bias = config.family == Family::kQwen2;
  config.qk_norm = config.family == Family::kQwen3;
  config.tied_embeddings = !file.tensors().contains("output.weight");
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding == file.tensors().end()) {
    return Damaged(where, "the tensor \"token_embd.weight\" is missing");
  }
  config.vocab = static_cast<int>(embedding->second.rows);
  CCOE_RETURN_IF_ERROR(ReadRope(file, metadata, where, &config.rope));
  return config;
}

// The Hugging Face name of a tensor of a layer by what follows "blk.N.".
std::optional<std::string_view> LayerTensorName(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"attn_norm.weight", "input_layernorm.weight"},
      {"attn_q.weight", "self_attn.q_proj.weight"},
      {"attn_k.weight", "self_attn.k_proj.weight"},
      {"attn_v.weight", "self_attn.v_proj.weight"},
      {"attn_q.bias", "self_attn.q_proj.bias"},
      {"attn_k.bias", "self_attn.k_proj.bias"},
      {"attn_v.bias", "self_attn.v_proj.bias"},
      {"attn_q_norm.weight", "self_attn.q_norm.weight"},
      {"attn_k_norm.weight", "self_attn.k_norm.weight"},
      {"attn_output.weight", "self_attn.o_proj.weight"},
      {"ffn_norm.weight", "post_attention_layernorm.weight"},
      {"ffn_gate.weight", "mlp.gate_proj.weight"},
      {"ffn_up.weight", "mlp.up_proj.weight"},
      {"ffn_down.weight", "mlp.down_proj.weight"},
  };
  for (const auto& [gguf, hugging_face] : kNames) {
    if (gguf == name) return hugging_face;
  }
  return std::nullopt;
}

std::optional<std::string> HuggingFaceName(std::string_view gguf_name) {
  if (gguf_name == "token_embd.weight") return "model.embed_tokens.weight";
  if (gguf_name == "output_norm.weight") return "model.norm.weight";
  if (gguf_name == "output.weight") return "lm_head.weight";
  constexpr std::string_view kLayerPrefix = "blk.";
  if (!gguf_name.starts_with(kLayerPrefix)) return std::nullopt;
  gguf_name.remove_prefix(kLayerPrefix.size());
  int layer = -1;
  const auto [end, error] =
      std::from_chars(gguf_name.data(), gguf_name.data() + gguf_name.size(), layer);
  if (error != std::errc() || layer < 0) return std::nullopt;
  gguf_name.remove_prefix(static_cast<size_t>(end - gguf_name.data()));
  if (!ConsumePrefix(&gguf_name, ".")) return std::nullopt;
  const std::optional<std::string_view> name = LayerTensorName(gguf_name);
  if (!name.has_value()) return std::nullopt;
  return Cat("model.layers.", layer, ".", *name);
}

// GGUF interleaves the two halves of each head's rows: row 2i + j of a head is Hugging Face's row
// j * head_dim / 2 + i. Copies the rows back into the latter order.
std::unique_ptr<std::byte[]> RestoreRowOrder(const base::TensorView& view, int head_dim) {
  const size_t row_bytes = *view.RowBytes();
  auto copy = std::make_unique_for_overwrite<std::byte[]>(view.data.size());
  const int64_t half = head_dim / 2;
  for (int64_t row = 0; row < view.rows; ++row) {
    const int64_t head = row / head_dim * head_dim, in_head = row % head_dim;
    const int64_t source = head + in_head % half * 2 + in_head / half;
    std::memcpy(copy.get() + static_cast<size_t>(row) * row_bytes, view.Row(source).data(),
                row_bytes);
  }
  return copy;
}

bool IsRotated(std::string_view name) {
  return name.ends_with("self_attn.q_proj.weight") || name.ends_with("self_attn.k_proj.weight");
}

absl::Status AddTensors(const GgufFile& file, std::string_view where, ModelParts* parts) {
  const int head_dim = parts->config.head_dim;
  for (const auto& [gguf_name, stored] : file.tensors()) {
    if (gguf_name == kRopeFactors) continue;
    const std::optional<std::string> name = HuggingFaceName(gguf_name);
    if (!name.has_value()) {
      return Unsupported(where, "the tensor \"", gguf_name,
                         "\" belongs to no supported architecture");
    }
    base::TensorView view = stored;
    if (parts->config.family == Family::kLlama && IsRotated(*name)) {
      if (view.rows % head_dim != 0) {
        return Damaged(where, "the rows of \"", gguf_name, "\" are no whole number of heads");
      }
      parts->copies.push_back(RestoreRowOrder(view, head_dim));
      view.data = {parts->copies.back().get(), view.data.size()};
    }
    if (!parts->tensors.emplace(*name, view).second) {
      return Damaged(where, "two tensors mean \"", *name, "\"");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelParts> ModelPartsFromGguf(const GgufFile& file, std::string_view where) {
  ModelParts parts;
  CCOE_ASSIGN_OR_RETURN(parts.config, ReadConfig(file, where));
  CCOE_ASSIGN_OR_RETURN(parts.tokenizer, TokenizerSpecFromGguf(file, where));
  parts.config.eos_ids = parts.tokenizer.end_of_generation_ids;
  if (absl::Status status = parts.config.Validate(); !status.ok()) return At(where, status);
  CCOE_ASSIGN_OR_RETURN(const std::string_view chat_template,
                        file.StringOr("tokenizer.chat_template", ""));
  parts.chat_template = chat_template;
  CCOE_RETURN_IF_ERROR(AddTensors(file, where, &parts));
  return parts;
}

absl::StatusOr<ModelParts> ReadGgufModel(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> mapped, MappedFile::Open(path));
  CCOE_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(mapped->bytes(), path));
  CCOE_ASSIGN_OR_RETURN(ModelParts parts, ModelPartsFromGguf(file, path));
  parts.config.name = std::filesystem::path(path).stem().string();
  parts.files.push_back(std::move(mapped));
  return parts;
}

}  // namespace ccoe::model
