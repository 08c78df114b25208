#include "common/runtime/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace ccoe::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(SamplerTest, GreedyTakesTheLowestIdAmongTheLargest) {
  std::vector<float> logits(100, 0.0f);
  logits[70] = logits[31] = 5;
  EXPECT_EQ(ArgMax(logits), 31);
  EXPECT_EQ(Sample(logits, {}, {}).id, 31);
}

TEST(SamplerTest, LogitsWithoutANumberStillGiveAToken) {
  const std::vector<float> logits(40, kNan);
  EXPECT_EQ(ArgMax(logits), 0);
  SamplingParams params;
  params.temperature = 1;
  EXPECT_EQ(Sample(logits, params, {}).id, 0);
}

TEST(SamplerTest, IsAFunctionOfSeedAndPosition) {
  std::vector<float> logits(64);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  SamplingParams params;
  params.temperature = 1;
  params.seed = 7;
  const std::vector<int32_t> history = {1, 2, 3};
  const GeneratedToken token = Sample(logits, params, {history, 3});
  EXPECT_EQ(token.position, 3);
  EXPECT_EQ(Sample(logits, params, {history, 3}).id, token.id);
  std::set<int32_t> seen;
  for (params.seed = 0; params.seed < 50; ++params.seed) {
    seen.insert(Sample(logits, params, {history, 3}).id);
  }
  EXPECT_GT(seen.size(), 10u);
}

TEST(SamplerTest, DrawsFollowTheDistribution) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  SamplingParams params;
  params.temperature = 1;
  std::map<int32_t, int> counts;
  for (params.seed = 0; params.seed < 20000; ++params.seed) ++counts[Sample(logits, params, {}).id];
  EXPECT_NEAR(counts[0] / 20000.0, 0.5, 0.02);
  EXPECT_NEAR(counts[1] / 20000.0, 0.3, 0.02);
  EXPECT_NEAR(counts[2] / 20000.0, 0.2, 0.02);
}

std::set<int32_t> Drawn(const SamplingParams& base) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f),
                                     std::log(0.3f)};
  std::set<int32_t> seen;
  SamplingParams params = base;
  for (params.seed = 0; params.seed < 500; ++params.seed)
    seen.insert(Sample(logits, params, {}).id);
  return seen;
}

TEST(SamplerTest, TopKTopPAndMinPCutTheTail) {
  SamplingParams params;
  params.temperature = 1;
  EXPECT_THAT(Drawn(params), ElementsAre(0, 1, 2, 3));
  params.top_k = 2;
  EXPECT_THAT(Drawn(params), ElementsAre(1, 3));
  params.top_k = 0;
  params.top_p = 0.65f;
  EXPECT_THAT(Drawn(params), ElementsAre(1, 3));
  params.top_p = 1;
  params.min_p = 0.45f;  // of 0.4: below 0.18 goes
  EXPECT_THAT(Drawn(params), ElementsAre(1, 2, 3));
}

TEST(SamplerTest, PenaltiesLookAtHistoryAndAnswer) {
  const std::vector<float> logits = {2.0f, 1.9f, 1.0f};
  SamplingParams params;
  params.repetition_penalty = 1.5f;
  const std::vector<int32_t> history = {0};
  EXPECT_EQ(Sample(logits, params, {history, 1}).id, 1);
  params = {};
  params.presence_penalty = 0.5f;
  EXPECT_EQ(Sample(logits, params, {history, 1}).id, 0) << "the prompt does not count";
  EXPECT_EQ(Sample(logits, params, {history, 0}).id, 1);
  params = {};
  params.frequency_penalty = 0.5f;
  const std::vector<int32_t> twice = {0, 1, 0};
  EXPECT_EQ(Sample(logits, params, {twice, 0}).id, 1);
}

TEST(SamplerTest, LogProbabilitiesSumToOne) {
  const std::vector<float> logits = {0.5f, -1.0f, 3.0f, 3.0f};
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += std::exp(LogProbability(logits, i));
  EXPECT_NEAR(sum, 1.0, 1e-6);
  const std::vector<TokenLogprob> top = TopLogprobs(logits, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 2);
  EXPECT_EQ(top[1].id, 3);
  EXPECT_EQ(top[2].id, 0);
  EXPECT_THAT(top[2].logprob, FloatNear(LogProbability(logits, 0), 1e-6f));
}

}  // namespace
}  // namespace ccoe::runtime
