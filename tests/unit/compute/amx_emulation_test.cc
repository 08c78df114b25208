#include <chrono>
#include <cstring>
#include <vector>

#include "common/compute/cpu/amx_matmul_inl.h"
#include "common/compute/cpu/cpu_features.h"
#include "common/compute/cpu/packed_matrix.h"
#include "gtest/gtest.h"
#include "tests/unit/compute/compute_test_util.h"

// The AMX kernels with the tile instructions replaced by what they compute: checks everything but
// the instructions on any CPU with AVX-512.
namespace ccoe::compute::cpu {
namespace {

using base::DType;

int begun = 0;
int ended = 0;

struct EmulatedTiles {
  static void Begin() { ++begun; }
  static void End() { ++ended; }

  // TDPBSUD: c[m][n] += sum over k, i of a[m][4 k + i] (signed) * b[k][4 n + i] (unsigned).
  static void Multiply(const int8_t* a, const std::byte* b, int32_t* c) {
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 16; ++n) {
        int32_t sum = 0;
        for (int k = 0; k < 8; ++k) {
          for (int i = 0; i < 4; ++i) {
            sum += a[32 * m + 4 * k + i] * static_cast<int>(b[64 * k + 4 * n + i]);
          }
        }
        c[16 * m + n] = sum;
      }
    }
  }
};

class AmxEmulationTest : public ::testing::TestWithParam<DType> {};

TEST_P(AmxEmulationTest, GivesTheOraclesBits) {
  const auto supported = SupportedCpuKernels();
  if (std::find(supported.begin(), supported.end(), CpuKernels::kAvx512Vnni) == supported.end()) {
    GTEST_SKIP() << "needs AVX-512 VNNI";
  }
  constexpr int kRows = 33;
  constexpr int kInputs = 768;
  constexpr int kOutputs = 40;
  const TestTensor tensor = RandomTensor(GetParam(), kOutputs, kInputs, 1);
  WeightArena arena;
  ThreadPool pool(1, std::chrono::microseconds(0));
  auto weight = *PackedMatrix::Pack(tensor.view, tensor.view.dtype, arena, pool);
  const auto x = RandomActivations(kRows * kInputs, 2);
  constexpr int kBlocks = kInputs / kBlock;
  std::vector<QuantizedBlock> blocks(3 * kBlocks);
  for (int r = 0; r < kRows; ++r) {
    ScalarKernels().quantize(&x[static_cast<size_t>(r * kInputs)], kBlocks, r % kTileRows,
                             &blocks[static_cast<size_t>(r / kTileRows * kBlocks)]);
  }
  for (const int rows : {1, 4, 5, 16, 17, 24, 33}) {
    std::vector<float> got(kRows * kOutputs);
    std::vector<float> want(kRows * kOutputs);
    MatmulTask task;
    task.format = weight->format();
    task.panels = weight->data();
    task.panel_bytes = weight->panel_bytes();
    task.outputs = kOutputs;
    task.blocks = kBlocks;
    task.xq = blocks.data();
    task.row_end = rows;
    task.panel_end = weight->panels();
    task.y_stride = kOutputs;
    task.y = want.data();
    ScalarKernels().matmul(task);
    task.y = got.data();
    AmxProducts<EmulatedTiles>::Matmul(task);
    EXPECT_TRUE(SameBits(got, want)) << rows;
  }
  EXPECT_GT(begun, 0);
  EXPECT_EQ(begun, ended);
}

INSTANTIATE_TEST_SUITE_P(All, AmxEmulationTest,
                         ::testing::Values(DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                           DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K),
                         [](const auto& info) { return TypeName(info.param); });

}  // namespace
}  // namespace ccoe::compute::cpu
