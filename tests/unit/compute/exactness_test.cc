#include <cmath>
#include <vector>

#include "common/compute/cpu/cpu_features.h"
#include "common/compute/cpu/packed_matrix.h"
#include "gmock/gmock.h"
#include "tests/unit/compute/compute_test_util.h"

namespace ccoe::compute {
namespace {

using base::DType;

constexpr int kRows = 8;
constexpr int kInputs = 512;
constexpr int kOutputs = 64;

// The product over blocks [begin, end) of the inputs alone.
std::vector<float> PartialProduct(CpuKernels kernels, const cpu::PackedMatrix& w,
                                  const std::vector<cpu::QuantizedBlock>& x, int begin, int end) {
  std::vector<float> y(kRows * kOutputs);
  cpu::MatmulTask task;
  task.format = w.format();
  task.panel_bytes = w.panel_bytes();
  task.panels = w.data() + static_cast<size_t>(begin) * (w.panel_bytes() / (kInputs / 32));
  task.outputs = kOutputs;
  task.blocks = end - begin;
  task.xq = x.data() + begin;
  task.row_end = kRows;
  task.panel_end = w.panels();
  task.y = y.data();
  task.y_stride = kOutputs;
  cpu::KernelsOf(kernels).matmul(task);
  return y;
}

// Guards the other tests of equal bits: a kernel that splits the sum over the inputs would fail
// them.
TEST(ExactnessTest, SplittingTheSumChangesBits) {
  const TestTensor tensor = RandomTensor(DType::kQ4_1, kOutputs, kInputs, 1);
  cpu::WeightArena arena;
  cpu::ThreadPool pool(1, std::chrono::microseconds(0));
  auto weight = *cpu::PackedMatrix::Pack(tensor.view, tensor.view.dtype, arena, pool);
  const auto x = RandomActivations(kRows * kInputs, 2);
  std::vector<cpu::QuantizedBlock> blocks(kInputs / 32);
  for (int r = 0; r < kRows; ++r) {
    cpu::ScalarKernels().quantize(&x[static_cast<size_t>(r * kInputs)], kInputs / 32, r,
                                  blocks.data());
  }
  for (const CpuKernels kernels : SupportedCpuKernels()) {
    const auto whole = PartialProduct(kernels, *weight, blocks, 0, kInputs / 32);
    EXPECT_TRUE(SameBits(whole, PartialProduct(CpuKernels::kScalar, *weight, blocks, 0, 16)));
    auto split = PartialProduct(kernels, *weight, blocks, 0, 8);
    const auto rest = PartialProduct(kernels, *weight, blocks, 8, 16);
    for (size_t i = 0; i < split.size(); ++i) {
      split[i] += rest[i];
      EXPECT_NEAR(split[i], whole[i], 1e-3 * (1 + std::fabs(whole[i])));
    }
    EXPECT_FALSE(SameBits(split, whole));
  }
}

}  // namespace
}  // namespace ccoe::compute
