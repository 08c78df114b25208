#include "common/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/model/hf_config.h"

namespace ccoe::model {
namespace {

using testing::FloatEq;
using testing::HasSubstr;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.layers = 2;
  config.hidden = 64;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.ffn = 96;
  config.vocab = 320;
  config.context = 512;
  config.rms_epsilon = 1e-5f;
  return config;
}

TEST(Config, FrequenciesFallWithTheDimension) {
  ModelConfig config = SmallConfig();
  config.rope.theta = 10000;
  const std::vector<float> frequencies = config.InverseFrequencies();
  ASSERT_EQ(frequencies.size(), 8u);
  for (int i = 0; i < 8; ++i) {
    EXPECT_THAT(frequencies[i], FloatEq(static_cast<float>(std::pow(10000.0, -i / 8.0))));
  }
}

TEST(Config, LinearScalingAndFactorsDivide) {
  ModelConfig config = SmallConfig();
  const std::vector<float> plain = config.InverseFrequencies();
  config.rope.scaling = RopeScaling::kLinear;
  config.rope.factor = 4;
  for (int i = 0; i < 8; ++i) EXPECT_EQ(config.InverseFrequencies()[i], plain[i] / 4);
  config.rope.scaling = RopeScaling::kFactors;
  config.rope.frequency_factors = {1, 2, 3, 4, 5, 6, 7, 8};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(config.InverseFrequencies()[i], plain[i] / static_cast<float>(i + 1));
  }
}

// Expected values: transformers' _compute_llama3_parameters in double precision.
TEST(Config, Llama3ScalingHasThreeBands) {
  ModelConfig config = SmallConfig();
  config.rope.theta = 500000;
  config.rope.scaling = RopeScaling::kLlama3;
  config.rope.factor = 8;
  config.rope.original_context = 64;
  const std::vector<float> scaled = config.InverseFrequencies();
  config.rope.scaling = RopeScaling::kNone;
  const std::vector<float> plain = config.InverseFrequencies();
  EXPECT_EQ(scaled[0], plain[0]);  // wavelength 6.3 < 64 / 4
  // Wavelength 32.4, between 16 and 64: smooth = (64 / 32.4 - 1) / 3.
  const double wavelength = 2 * M_PI / plain[1];
  const double smooth = (64 / wavelength - 1) / 3;
  EXPECT_NEAR(scaled[1], (1 - smooth) * plain[1] / 8 + smooth * plain[1], 1e-7);
  for (int i = 2; i < 8; ++i) EXPECT_EQ(scaled[i], plain[i] / 8);
}

TEST(Config, CanonicalJsonHoldsWhatDecidesTheNumbers) {
  ModelConfig config = SmallConfig();
  config.name = "anything";
  EXPECT_EQ(config.CanonicalJson(),
            R"({"family":"llama","ffn":96,"head_dim":16,"heads":4,"hidden":64,"kv_heads":2,)"
            R"("layers":2,"qk_norm":false,"qkv_bias":false,"rms_epsilon":9.99999975e-06,)"
            R"("rope":{"scaling":"none","theta":10000},"tied_embeddings":false,"vocab":320})");
}

TEST(Config, RefusesAbsurdShapes) {
  EXPECT_TRUE(SmallConfig().Validate().ok());
  const auto refused = [](auto change) {
    ModelConfig config = SmallConfig();
    change(&config);
    return !config.Validate().ok();
  };
  EXPECT_TRUE(refused([](ModelConfig* c) { c->layers = 0; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->layers = 1025; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->hidden = -1; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->kv_heads = 3; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->head_dim = 15; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->vocab = 1 << 21; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->rms_epsilon = NAN; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->rope.theta = INFINITY; }));
  EXPECT_TRUE(refused([](ModelConfig* c) { c->eos_ids = {320}; }));
  EXPECT_TRUE(refused([](ModelConfig* c) {
    c->rope.scaling = RopeScaling::kFactors;
    c->rope.frequency_factors = {1, 2};
  }));
}

std::string HfConfig(std::string_view more) {
  return R"({"model_type":"llama","hidden_size":64,"num_attention_heads":4,"intermediate_size":96,)"
         R"("num_hidden_layers":2,"vocab_size":320,"max_position_embeddings":512)" +
         std::string(more) + "}";
}

TEST(HfConfig, ReadsDefaultsAsTransformersDoes) {
  const auto config = ParseHfConfig(HfConfig(""), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->rope.theta, 10000);
  EXPECT_FALSE(config->tied_embeddings);
  EXPECT_EQ(config->rms_epsilon, 1e-6f);
}

TEST(HfConfig, ReadsBothFormsOfRope) {
  const std::string_view forms[] = {
      R"(,"rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,)"
      R"("high_freq_factor":4,"original_max_position_embeddings":64})",
      R"(,"rope_parameters":{"rope_theta":5e5,"rope_type":"llama3","factor":8,)"
      R"("low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":64})"};
  for (const std::string_view form : forms) {
    const auto config = ParseHfConfig(HfConfig(form), "config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope.scaling, RopeScaling::kLlama3);
    EXPECT_EQ(config->rope.theta, 5e5f);
    EXPECT_EQ(config->rope.original_context, 64);
  }
}

TEST(HfConfig, NamesWhatIsNotSupported) {
  for (const std::string_view more :
       {R"(,"hidden_act":"gelu")", R"(,"attention_bias":true)", R"(,"mlp_bias":true)",
        R"(,"rope_scaling":{"rope_type":"yarn","factor":4})", R"(,"quantization_config":{})"}) {
    const absl::Status status = ParseHfConfig(HfConfig(more), "config.json").status();
    EXPECT_TRUE(absl::IsUnimplemented(status)) << more;
    EXPECT_THAT(std::string(status.message()), HasSubstr("supported: ")) << more;
  }
  const absl::Status status = ParseHfConfig(R"({"model_type":"gpt2"})", "c").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("supported: llama, qwen2, qwen3"));
}

TEST(HfConfig, RefusesWrongValues) {
  for (const std::string_view more :
       {R"(,"num_key_value_heads":3)", R"(,"head_dim":0)", R"(,"rope_theta":"x")",
        R"(,"eos_token_id":-1)", R"(,"eos_token_id":[1,"x"])", R"(,"eos_token_id":320)",
        R"(,"rope_scaling":{"rope_type":"linear","factor":0})", R"(,"hidden_size":64)"}) {
    EXPECT_EQ(ParseHfConfig(HfConfig(more), "c").status().code(),
              absl::StatusCode::kInvalidArgument)
        << more;
  }
}

}  // namespace
}  // namespace ccoe::model
