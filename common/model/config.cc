#include "common/model/config.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

constexpr int kMaxLayers = 1024;
constexpr int kMaxWidth = 1 << 17;
constexpr int kMaxVocabulary = 1 << 20;
constexpr int kMaxContext = 1 << 24;

std::string Number(float value) { return absl::StrFormat("%.9g", value); }

absl::Status OutOfRange(std::string_view field, double value) {
  return absl::InvalidArgumentError(Cat(field, " is ", value, ", out of range"));
}

// transformers' _compute_llama3_parameters, on one frequency.
float Llama3Frequency(const RopeConfig& rope, float frequency) {
  const double old_context = rope.original_context;
  const float low_wavelength = static_cast<float>(old_context / rope.low_freq_factor);
  const float high_wavelength = static_cast<float>(old_context / rope.high_freq_factor);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
  if (wavelength > low_wavelength) return frequency / rope.factor;
  if (wavelength < high_wavelength) return frequency;
  const float smooth = (static_cast<float>(old_context) / wavelength - rope.low_freq_factor) /
                       (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

std::string RopeJson(const RopeConfig& rope) {
  const std::string theta = Cat("\"theta\":", Number(rope.theta));
  switch (rope.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      return Cat("{\"factor\":", Number(rope.factor), ",\"scaling\":\"linear\",", theta, "}");
    case RopeScaling::kLlama3:
      return Cat("{\"factor\":", Number(rope.factor),
                 ",\"high_freq_factor\":", Number(rope.high_freq_factor),
                 ",\"low_freq_factor\":", Number(rope.low_freq_factor),
                 ",\"original_context\":", rope.original_context, ",\"scaling\":\"llama3\",", theta,
                 "}");
    case RopeScaling::kFactors:
      return Cat("{\"factors\":[",
                 absl::StrJoin(rope.frequency_factors, ",",
                               [](std::string* out, float f) { *out += Number(f); }),
                 "],\"scaling\":\"factors\",", theta, "}");
  }
  return Cat("{\"scaling\":\"none\",", theta, "}");
}

absl::Status ValidateRope(const RopeConfig& rope, int head_dim) {
  if (!(rope.theta > 1) || rope.theta > 1e12f) return OutOfRange("rope theta", rope.theta);
  if (!(rope.factor > 0) || rope.factor > 1e6f) return OutOfRange("rope factor", rope.factor);
  if (rope.scaling == RopeScaling::kLlama3) {
    if (!(rope.low_freq_factor > 0) || !(rope.high_freq_factor > rope.low_freq_factor) ||
        rope.high_freq_factor > 1e6f) {
      return OutOfRange("rope high_freq_factor", rope.high_freq_factor);
    }
    if (rope.original_context < 1 || rope.original_context > kMaxContext) {
      return OutOfRange("rope original context", rope.original_context);
    }
  }
  if (rope.scaling == RopeScaling::kFactors) {
    if (rope.frequency_factors.size() != static_cast<size_t>(head_dim) / 2) {
      return OutOfRange("the number of rope frequency factors",
                        static_cast<double>(rope.frequency_factors.size()));
    }
    for (const float factor : rope.frequency_factors) {
      if (!(factor > 0) || factor > 1e6f) return OutOfRange("a rope frequency factor", factor);
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view FamilyName(Family family) {
  switch (family) {
    case Family::kLlama:
      return "llama";
    case Family::kQwen2:
      return "qwen2";
    case Family::kQwen3:
      return "qwen3";
  }
  return "unknown";
}

std::vector<float> ModelConfig::InverseFrequencies() const {
  std::vector<float> frequencies;
  for (int i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    float frequency = 1.0f / std::pow(rope.theta, exponent);
    if (rope.scaling == RopeScaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) frequency = Llama3Frequency(rope, frequency);
    if (rope.scaling == RopeScaling::kFactors) frequency /= rope.frequency_factors[i];
    frequencies.push_back(frequency);
  }
  return frequencies;
}

std::string ModelConfig::CanonicalJson() const {
  const auto boolean = [](bool value) { return value ? "true" : "false"; };
  return Cat("{\"family\":\"", FamilyName(family), "\",\"ffn\":", ffn, ",\"head_dim\":", head_dim,
             ",\"heads\":", heads, ",\"hidden\":", hidden, ",\"kv_heads\":", kv_heads,
             ",\"layers\":", layers, ",\"qk_norm\":", boolean(qk_norm),
             ",\"qkv_bias\":", boolean(qkv_bias), ",\"rms_epsilon\":", Number(rms_epsilon),
             ",\"rope\":", RopeJson(rope), ",\"tied_embeddings\":", boolean(tied_embeddings),
             ",\"vocab\":", vocab, "}");
}

absl::Status ModelConfig::Validate() const {
  struct Bound {
    std::string_view field;
    int value;
    int high;
  };
  const Bound bounds[] = {
      {"the number of layers", layers, kMaxLayers},
      {"the hidden size", hidden, kMaxWidth},
      {"the number of heads", heads, kMaxWidth},
      {"the number of key-value heads", kv_heads, kMaxWidth},
      {"the head dimension", head_dim, 1024},
      {"the feed-forward size", ffn, 1 << 20},
      {"the vocabulary size", vocab, kMaxVocabulary},
      {"the context length", context, kMaxContext},
  };
  for (const Bound& bound : bounds) {
    if (bound.value < 1 || bound.value > bound.high) return OutOfRange(bound.field, bound.value);
  }
  if (heads % kv_heads != 0) {
    return absl::InvalidArgumentError(
        Cat(kv_heads, " key-value heads do not divide ", heads, " heads"));
  }
  if (head_dim % 2 != 0) return OutOfRange("the head dimension", head_dim);
  if (heads > kMaxWidth / head_dim) return OutOfRange("heads times head dimension", heads);
  if (!(rms_epsilon >= 0) || rms_epsilon > 0.1f) return OutOfRange("rms epsilon", rms_epsilon);
  for (const int32_t id : eos_ids) {
    if (id < 0 || id >= vocab) return OutOfRange("an end-of-text token", id);
  }
  return ValidateRope(rope, head_dim);
}

}  // namespace ccoe::model
