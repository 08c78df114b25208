
#include "common/compute/cpu/attention_inl.h"
#include "common/compute/cpu/avx512_blocks_inl.h"
#include "common/compute/cpu/elementwise_inl.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/matmul_inl.h"
#include "common/compute/cpu/vec_avx512.h"

namespace ccoe::compute::cpu {
namespace {

void Matmul(const MatmulTask& task) { DispatchMatmul<VnniKernel, Vec512>(task); }

}  // namespace

const KernelTable& Avx512VnniKernels() {
  static constexpr KernelTable kTable = {
      .kernels = CpuKernels::kAvx512Vnni,
      .matmul = Matmul,
      .quantize = Quantize<Vec512>,
      .rms_norm = RmsNorm<Vec512>,
      .swiglu = SwiGlu<Vec512>,
      .rope = Rope<Vec512>,
      .to_half = ToHalf<Vec512>,
      .attention_f32 = Attention<Vec512, float>,
      .attention_f16 = Attention<Vec512, uint16_t>,
  };
  return kTable;
}

}  // namespace ccoe::compute::cpu
