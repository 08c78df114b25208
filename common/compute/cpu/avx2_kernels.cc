#include <immintrin.h>

#include "common/compute/cpu/attention_inl.h"
#include "common/compute/cpu/elementwise_inl.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/matmul_inl.h"
#include "common/compute/cpu/vec_avx2.h"

namespace ccoe::compute::cpu {
namespace {

using base::DType;

template <DType F>
inline Vec256 LoadScales(const std::byte* at) {
  if constexpr (FormatOf(F).wide_scales) {
    return Vec256::Load(reinterpret_cast<const float*>(at));
  } else {
    return Vec256::Load(reinterpret_cast<const uint16_t*>(at));
  }
}

inline __m256i LoadBytes(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

// Writes a packed block's weights as 16 vectors: group g of outputs 0..7 and of outputs 8..15.
// Eight bits become signed: they need no offset then.
template <DType F>
inline void Unpack(const std::byte* block, __m256i* groups) {
  const std::byte* weights = block + HeaderBytesOf(F);
  if constexpr (FormatOf(F).bits == 4) {
    const __m256i mask = _mm256_set1_epi8(0xf);
    for (int i = 0; i < 8; ++i) {
      const __m256i both = LoadBytes(weights + 32 * i);
      groups[i] = _mm256_and_si256(both, mask);
      groups[i + 8] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    }
  } else {
    const __m256i flip = _mm256_set1_epi8(F == DType::kQ8_0 ? -128 : 0);
    for (int i = 0; i < 16; ++i) {
      groups[i] = _mm256_xor_si256(LoadBytes(weights + 32 * i), flip);
    }
  }
}

// Sums of four products w * x per output. A pair of products fits 16 bits: w < 64 as unsigned, or
// |w| * |x| <= 128 * 127 with the sign moved to x.
template <DType F>
inline __m256i DotFour(__m256i acc, __m256i weights, __m256i x) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (F == DType::kQ8_0) {
    x = _mm256_sign_epi8(x, weights);
    weights = _mm256_abs_epi8(weights);
  }
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(weights, x), ones));
}

struct Sums {
  __m256i lo;
  __m256i hi;
};

template <DType F>
inline Sums DotGroups(const __m256i* groups, const int8_t* q, int begin, int end, int32_t sum) {
  constexpr int kShift = F == DType::kQ8_0 ? -1 : FormatOf(F).offset_shift;
  const __m256i start =
      kShift < 0 ? _mm256_setzero_si256() : _mm256_set1_epi32(-(sum << (kShift & 31)));
  Sums acc = {start, start};
  for (int g = begin; g < end; ++g) {
    int32_t four;
    __builtin_memcpy(&four, q + 4 * g, sizeof(four));
    const __m256i x = _mm256_set1_epi32(four);
    acc.lo = DotFour<F>(acc.lo, groups[2 * g], x);
    acc.hi = DotFour<F>(acc.hi, groups[2 * g + 1], x);
  }
  return acc;
}

inline Vec256 Combine(Vec256 acc, Vec256 scale, float x_scale, Sums isum) {
  const Vec256 sums = {_mm256_cvtepi32_ps(isum.lo), _mm256_cvtepi32_ps(isum.hi)};
  return Vec256::Fma(Vec256::Mul(scale, Vec256::Set(x_scale)), sums, acc);
}

// acc + the products of one plane of one row.
template <DType F>
inline Vec256 AddPlane(Vec256 acc, const __m256i* groups, Vec256 scale, Vec256 second,
                       const QuantizedPlane& x, int row) {
  const int8_t* q = x.q[row];
  const int32_t sum = x.sum[row];
  if constexpr (FormatOf(F).scales == 2) {
    const int32_t half = x.first_half_sum[row];
    acc = Combine(acc, scale, x.scale[row], DotGroups<F>(groups, q, 0, 4, half));
    return Combine(acc, second, x.scale[row], DotGroups<F>(groups, q, 4, 8, sum - half));
  } else {
    return Combine(acc, scale, x.scale[row], DotGroups<F>(groups, q, 0, 8, sum));
  }
}

// 16 outputs x T rows of a product with quantised weights.
template <DType F, int T>
void Tile(const MatmulTask& task, int panel_index, int row) {
  constexpr BlockFormat kFormat = FormatOf(F);
  const std::byte* block = task.panels + static_cast<size_t>(panel_index) * task.panel_bytes;
  const QuantizedBlock* x =
      task.xq + static_cast<size_t>(row / kTileRows) * static_cast<size_t>(task.blocks);
  const int r = row % kTileRows;
  Vec256 acc[T];
  for (int t = 0; t < T; ++t) acc[t] = Vec256::Zero();
  for (int b = 0; b < task.blocks; ++b, block += PackedBlockBytesOf(F), ++x) {
    __m256i groups[16];
    Unpack<F>(block, groups);
    const Vec256 scale = LoadScales<F>(block);
    const Vec256 second = kFormat.scales == 2 || kFormat.has_min
                              ? LoadScales<F>(block + ScaleBytesOf(F))
                              : Vec256::Zero();
    for (int t = 0; t < T; ++t) {
      acc[t] = AddPlane<F>(acc[t], groups, scale, second, x->high, r + t);
      if (x->fine[r + t] != 0) {
        acc[t] = AddPlane<F>(acc[t], groups, scale, second, x->low, r + t);
      }
      if constexpr (kFormat.has_min) {
        acc[t] = Vec256::Fma(second, Vec256::Set(x->scaled_sum[r + t]), acc[t]);
      }
    }
  }
  for (int t = 0; t < T; ++t) Finish<Vec256>(task, row + t, panel_index, acc[t]);
}

template <DType F>
struct Avx2Kernel {
  static void Run(const MatmulTask& task) {
    for (int panel = task.panel_begin; panel < task.panel_end; ++panel) {
      int row = task.row_begin;
      for (; row + 4 <= task.row_end; row += 4) Tile<F, 4>(task, panel, row);
      for (; row < task.row_end; ++row) Tile<F, 1>(task, panel, row);
    }
  }
};

void Matmul(const MatmulTask& task) { DispatchMatmul<Avx2Kernel, Vec256>(task); }

}  // namespace

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = {
      .kernels = CpuKernels::kAvx2,
      .matmul = Matmul,
      .quantize = Quantize<Vec256>,
      .rms_norm = RmsNorm<Vec256>,
      .swiglu = SwiGlu<Vec256>,
      .rope = Rope<Vec256>,
      .to_half = ToHalf<Vec256>,
      .attention_f32 = Attention<Vec256, float>,
      .attention_f16 = Attention<Vec256, uint16_t>,
  };
  return kTable;
}

}  // namespace ccoe::compute::cpu
