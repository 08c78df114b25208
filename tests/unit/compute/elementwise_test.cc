#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "common/compute/cpu/cpu_features.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/rope_table.h"
#include "gmock/gmock.h"
#include "tests/unit/compute/compute_test_util.h"

namespace ccoe::compute {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kDenormal = std::numeric_limits<float>::denorm_min();
constexpr int kSizes[] = {1, 15, 16, 17, 64, 576, 1000};

void ExpectSamePlane(const cpu::QuantizedPlane& got, const cpu::QuantizedPlane& want, int row) {
  EXPECT_EQ(std::memcmp(got.q[row], want.q[row], sizeof(got.q[row])), 0);
  EXPECT_EQ(got.sum[row], want.sum[row]);
  EXPECT_EQ(got.first_half_sum[row], want.first_half_sum[row]);
  EXPECT_TRUE(SameBits({got.scale[row]}, {want.scale[row]}));
}

void ExpectSameRow(const cpu::QuantizedBlock& got, const cpu::QuantizedBlock& want, int row) {
  ExpectSamePlane(got.high, want.high, row);
  EXPECT_TRUE(SameBits({got.scaled_sum[row]}, {want.scaled_sum[row]}));
  ASSERT_EQ(got.fine[row], want.fine[row]);
  if (got.fine[row] != 0) ExpectSamePlane(got.low, want.low, row);
}

class ElementwiseTest : public ::testing::TestWithParam<CpuKernels> {
 protected:
  const cpu::KernelTable& kernels() const { return cpu::KernelsOf(GetParam()); }
  const cpu::KernelTable& oracle() const { return cpu::ScalarKernels(); }
};

TEST_P(ElementwiseTest, RmsNorm) {
  for (const int n : kSizes) {
    const auto size = static_cast<size_t>(n);
    const auto x = RandomFloats(size, 1, 3);
    const auto w = RandomFloats(size, 2);
    std::vector<float> got(size);
    std::vector<float> want(size);
    kernels().rms_norm(x.data(), w.data(), 1e-5f, n, got.data());
    oracle().rms_norm(x.data(), w.data(), 1e-5f, n, want.data());
    EXPECT_TRUE(SameBits(got, want)) << n;
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
    const double r = 1 / std::sqrt(squares / n + 1e-5);
    for (size_t i = 0; i < size; ++i) {
      const double expected = static_cast<double>(x[i]) * r * static_cast<double>(w[i]);
      EXPECT_NEAR(got[i], expected, 1e-6 * std::fabs(expected) + 1e-7);
    }
  }
}

TEST_P(ElementwiseTest, SwiGlu) {
  std::vector<float> gate = {0,  -0.0f, 1,   -1,  87,        -87,       88,   -88,
                             89, -200,  200, 1e9, kInfinity, kDenormal, 0.5f, 1e-9f};
  const auto more = RandomFloats(1000, 3, 10);
  gate.insert(gate.end(), more.begin(), more.end());
  const auto up = RandomFloats(gate.size(), 4);
  std::vector<float> got(gate.size());
  std::vector<float> want(gate.size());
  kernels().swiglu(gate.data(), up.data(), static_cast<int>(gate.size()), got.data());
  oracle().swiglu(gate.data(), up.data(), static_cast<int>(gate.size()), want.data());
  EXPECT_TRUE(SameBits(got, want));
  for (size_t i = 0; i < gate.size(); ++i) {
    if (std::isinf(gate[i])) continue;
    const double g = gate[i];
    const double expected = g / (1 + std::exp(-g)) * static_cast<double>(up[i]);
    EXPECT_NEAR(got[i], expected, 1e-6 * std::fabs(expected) + 1e-30) << gate[i];
  }
}

TEST_P(ElementwiseTest, RopeRotatesHalves) {
  for (const int dim : {2, 8, 32, 48, 64, 128}) {
    const auto half = static_cast<size_t>(dim / 2);
    const auto x = RandomFloats(2 * half, 5);
    const auto c = RandomFloats(half, 6);
    const auto s = RandomFloats(half, 7);
    auto got = x;
    auto want = x;
    kernels().rope(got.data(), dim, c.data(), s.data());
    oracle().rope(want.data(), dim, c.data(), s.data());
    EXPECT_TRUE(SameBits(got, want)) << dim;
    for (size_t i = 0; i < half; ++i) {
      EXPECT_NEAR(got[i], x[i] * c[i] - x[i + half] * s[i], 1e-5);
      EXPECT_NEAR(got[i + half], x[i + half] * c[i] + x[i] * s[i], 1e-5);
    }
  }
}

TEST_P(ElementwiseTest, HalvesRoundToNearestEven) {
  std::vector<float> x = {0,         -0.0f,     1,        65504,        65519.99f,  65520,
                          -1e9f,     kInfinity, 0x1p-24f, 0x1p-25f,     0x1.8p-25f, 0x1.004p0f,
                          0x1.002p0, 0x1.006p0, 0x1p-14f, 0x1.ffep-15f, kDenormal,  NAN};
  for (uint32_t bits = 0; bits < 0xffff0000u; bits += 77777) {
    x.push_back(std::bit_cast<float>(bits));
  }
  std::vector<uint16_t> got(x.size());
  kernels().to_half(x.data(), static_cast<int>(x.size()), got.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(got[i], base::FloatToHalf(x[i])) << x[i];
  EXPECT_EQ(got[3], 0x7bff);
  EXPECT_EQ(got[5], 0x7c00);
  EXPECT_EQ(got[11], 0x3c01);
  EXPECT_EQ(got[12], 0x3c00);  // a tie, to even
  EXPECT_EQ(got[13], 0x3c02);
}

// One block per case, quantised as row 3 of a tile.
TEST_P(ElementwiseTest, QuantizeHasNoEdges) {
  std::vector<std::vector<float>> blocks = {
      std::vector<float>(32, 0),
      std::vector<float>(32, kDenormal),
      std::vector<float>(32, 190 * kDenormal),
      std::vector<float>(32, -3.4e38f),
      std::vector<float>(32, kInfinity),
      std::vector<float>(32, NAN),
      RandomFloats(32, 8),
      RandomFloats(32, 9, 1e-38f),
      RandomFloats(32, 10, 1e30f),
  };
  blocks.push_back(blocks[6]);
  blocks.back()[17] = NAN;
  blocks.push_back(blocks[6]);
  blocks.back()[31] = -kInfinity;
  for (const auto& x : blocks) {
    auto got = std::make_unique<cpu::QuantizedBlock>();
    auto want = std::make_unique<cpu::QuantizedBlock>();
    kernels().quantize(x.data(), 1, 3, got.get());
    oracle().quantize(x.data(), 1, 3, want.get());
    ExpectSameRow(*got, *want, 3);
    const cpu::QuantizedPlane& plane = got->high;
    int sum = 0;
    bool finite = true;
    for (int i = 0; i < 32; ++i) {
      sum += plane.q[3][i];
      EXPECT_GE(plane.q[3][i], -127);
      finite = finite && std::isfinite(x[static_cast<size_t>(i)]);
    }
    EXPECT_EQ(sum, plane.sum[3]);
    EXPECT_EQ(std::isnan(plane.scale[3]), !finite);
    for (size_t i = 0; finite && i < 32; ++i) {
      const double value = static_cast<double>(plane.scale[3]) * plane.q[3][i];
      const double step = static_cast<double>(plane.scale[3]) * 0.5001 + 64 * 1.5e-45;
      EXPECT_NEAR(value, static_cast<double>(x[i]), step);
    }
  }
}

TEST_P(ElementwiseTest, QuantizesBlocksOfOutliersFinely) {
  constexpr int kBlocks = 16;
  const auto x = RandomActivations(kBlocks * 32, 11);
  std::vector<cpu::QuantizedBlock> got(kBlocks);
  std::vector<cpu::QuantizedBlock> want(kBlocks);
  kernels().quantize(x.data(), kBlocks, 3, got.data());
  oracle().quantize(x.data(), kBlocks, 3, want.data());
  int fine = 0;
  for (size_t b = 0; b < kBlocks; ++b) {
    ExpectSameRow(got[b], want[b], 3);
    if (got[b].fine[3] == 0) continue;
    ++fine;
    for (size_t i = 0; i < 32; ++i) {
      const double value = static_cast<double>(got[b].high.scale[3]) * got[b].high.q[3][i] +
                           static_cast<double>(got[b].low.scale[3]) * got[b].low.q[3][i];
      const double step = static_cast<double>(got[b].high.scale[3]) / 254 * 0.501;
      EXPECT_NEAR(value, static_cast<double>(x[b * 32 + i]), step);
    }
  }
  EXPECT_EQ(fine, 2);
}

INSTANTIATE_TEST_SUITE_P(All, ElementwiseTest, ::testing::ValuesIn(SupportedCpuKernels()),
                         [](const auto& info) { return KernelsName(info.param); });

TEST(RopeTableTest, SineAndCosineAreThoseOfTheLibrary) {
  for (int i = 0; i < 200000; ++i) {
    const double angle = i < 1000 ? i * 0.01 : static_cast<double>(i) * 5.2387;
    const cpu::SinCos value = cpu::SinCosOf(angle);
    EXPECT_NEAR(value.sin, std::sin(angle), 1e-15) << angle;
    EXPECT_NEAR(value.cos, std::cos(angle), 1e-15) << angle;
  }
}

}  // namespace
}  // namespace ccoe::compute
