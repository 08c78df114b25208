#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "common/compute/cpu/block_format.h"
#include "common/compute/cpu/packed_matrix.h"
#include "gtest/gtest.h"
#include "tests/unit/compute/compute_test_util.h"

// Float weights that are quantised when they are packed.
namespace ccoe::compute::cpu {
namespace {

std::vector<float> Values(const DecodedBlock& block, base::DType dtype) {
  const BlockFormat format = FormatOf(dtype);
  std::vector<float> values;
  for (int i = 0; i < kBlock; ++i) {
    const float scale = block.scale[format.scales == 2 ? i / 16 : 0];
    values.push_back(static_cast<float>(block.u[i] - OffsetOf(dtype)) * scale + block.min);
  }
  return values;
}

std::vector<float> Quantized(base::DType dtype, const std::vector<float>& values) {
  DecodedBlock block;
  QuantizeBlock(dtype, values.data(), &block);
  return Values(block, dtype);
}

class QuantizeTest : public ::testing::TestWithParam<base::DType> {};

TEST_P(QuantizeTest, IsWithinAStepOfTheValues) {
  const int levels = (FormatOf(GetParam()).bits == 4)   ? 15
                     : GetParam() == base::DType::kQ8_0 ? 255
                     : GetParam() == base::DType::kQ6_K ? 63
                                                        : 31;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> values = RandomFloats(kBlock, seed, 0.1f);
    const std::vector<float> quantized = Quantized(GetParam(), values);
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    // All formats tell 2 * largest in so many steps, but for the one that lacks its last number.
    const float step = 2.01f * largest / static_cast<float>(levels);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(quantized[i], values[i], step) << seed;
  }
}

TEST_P(QuantizeTest, OfWhatIsQuantizedIsTheSame) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> once = Quantized(GetParam(), RandomFloats(kBlock, seed, 0.1f));
    const std::vector<float> twice = Quantized(GetParam(), once);
    for (size_t i = 0; i < once.size(); ++i) {
      EXPECT_NEAR(twice[i], once[i], 2e-3f * std::abs(once[i]) + 1e-6f) << seed;
    }
  }
}

TEST_P(QuantizeTest, TakesAnyNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {0.0f, -0.0f, 1e-40f, 3e38f, -3e38f, kInfinity, -kInfinity,
                            std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> values(kBlock, value);
    Quantized(GetParam(), values);  // the sanitizers see what is undefined
    values[7] = 1;
    Quantized(GetParam(), values);
  }
  EXPECT_EQ(Quantized(GetParam(), std::vector<float>(kBlock)), std::vector<float>(kBlock));
}

TEST_P(QuantizeTest, PacksFloatRows) {
  ThreadPool pool(2, std::chrono::microseconds(0));
  WeightArena arena;
  for (const base::DType from : {base::DType::kF32, base::DType::kF16, base::DType::kBF16}) {
    const TestTensor tensor = RandomTensor(from, 21, 96, 5);
    const auto packed = PackedMatrix::Pack(tensor.view, GetParam(), arena, pool);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ((*packed)->format(), GetParam());
    std::vector<float> row(96);
    for (int r = 0; r < 21; ++r) {
      (*packed)->ReadRow(r, row.data());
      for (int b = 0; b < 3; ++b) {
        const auto begin = tensor.values.begin() + r * 96 + b * kBlock;
        const std::vector<float> expected =
            Quantized(GetParam(), std::vector<float>(begin, begin + kBlock));
        const auto actual = row.begin() + b * kBlock;
        EXPECT_EQ(std::vector<float>(actual, actual + kBlock), expected) << r << " " << b;
      }
    }
  }
}

TEST_P(QuantizeTest, RefusesRowsThatAreNoWholeBlocks) {
  ThreadPool pool(1, std::chrono::microseconds(0));
  WeightArena arena;
  const TestTensor tensor = RandomTensor(base::DType::kF32, 4, 40, 5);
  EXPECT_EQ(PackedMatrix::Pack(tensor.view, GetParam(), arena, pool).status().code(),
            absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantizeTest,
                         ::testing::Values(base::DType::kQ8_0, base::DType::kQ4_0,
                                           base::DType::kQ4_1, base::DType::kQ5_0,
                                           base::DType::kQ5_1, base::DType::kQ4_K,
                                           base::DType::kQ5_K, base::DType::kQ6_K),
                         [](const auto& param) { return TypeName(param.param); });

// What the base's own file holds comes back as it was: its blocks tell their extremes.
TEST(QuantizeQ4Test, DequantizedBlocksThatUseTheirRangeComeBackToTheBit) {
  DecodedBlock block = {};
  for (int i = 0; i < kBlock; ++i) block.u[i] = static_cast<uint8_t>((i * 7) % 16);
  for (uint16_t scale = 0x1000; scale < 0x2c00; scale = static_cast<uint16_t>(scale + 37)) {
    block.scale_f16 = scale;
    block.min_f16 = base::FloatToHalf(-7.3f * base::HalfToFloat(scale));
    block.scale[0] = base::HalfToFloat(block.scale_f16);
    block.min = base::HalfToFloat(block.min_f16);
    DecodedBlock again;
    QuantizeBlock(base::DType::kQ4_1, Values(block, base::DType::kQ4_1).data(), &again);
    EXPECT_EQ(again.scale_f16, block.scale_f16);
    EXPECT_EQ(again.min_f16, block.min_f16);
    EXPECT_EQ(std::vector<uint8_t>(again.u, again.u + kBlock),
              std::vector<uint8_t>(block.u, block.u + kBlock));
  }
}

}  // namespace
}  // namespace ccoe::compute::cpu
