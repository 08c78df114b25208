#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace ccoe::model {

// Architectures that the engine computes. They differ in biases, head norms and tokenizers only:
// each layer is RMS norm, grouped-query attention with rotary embedding, RMS norm, SwiGLU.
enum class Family { kLlama, kQwen2, kQwen3 };

// "llama", "qwen2", "qwen3".
std::string_view FamilyName(Family family);

enum class RopeScaling {
  kNone,
  kLinear,  // every frequency divided by `factor`
  kLlama3,  // Llama 3.1's three bands, from factor, low and high frequency factor, original context
  kFactors,  // every frequency divided by its own entry of `frequency_factors` (GGUF's rope_freqs)
};

// Rotary embedding of halves of a head (Hugging Face's order).
struct RopeConfig {
  float theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1;                      // kLinear, kLlama3
  float low_freq_factor = 1;             // kLlama3
  float high_freq_factor = 4;            // kLlama3
  int original_context = 8192;           // kLlama3
  std::vector<float> frequency_factors;  // kFactors: head_dim / 2 values
};

// Shape and constants of a base model. A plain value; a Model's config has passed Validate.
struct ModelConfig {
  Family family = Family::kLlama;
  std::string name;  // for people; no part of the digest
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // even; heads * head_dim need not equal hidden
  int ffn = 0;
  int vocab = 0;    // rows of the embedding; the tokenizer may know fewer
  int context = 0;  // tokens the model was trained for
  float rms_epsilon = 0;
  bool tied_embeddings = false;  // lm_head.weight is model.embed_tokens.weight
  bool qkv_bias = false;         // q, k and v projections have biases (Qwen2)
  bool qk_norm = false;          // q and k heads are RMS-normed before rope (Qwen3)
  RopeConfig rope;
  std::vector<int32_t> eos_ids;  // tokens that end a generation, ascending

  // head_dim / 2 values, computed in float32 step by step as transformers does.
  std::vector<float> InverseFrequencies() const;
  // Everything that decides the numbers, as one line of JSON with sorted keys (docs/models.md).
  std::string CanonicalJson() const;
  // INVALID_ARGUMENT names the field that is out of its range.
  absl::Status Validate() const;
};

}  // namespace ccoe::model
