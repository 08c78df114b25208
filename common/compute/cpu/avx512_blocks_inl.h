#pragma once

#include <immintrin.h>

#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/matmul_inl.h"
#include "common/compute/cpu/vec_avx512.h"

namespace ccoe::compute::cpu {

// Sixteen scales or minima, as stored: float32 or float16.
template <base::DType F>
inline __m512 LoadScales512(const std::byte* at) {
  if constexpr (FormatOf(F).wide_scales) {
    return _mm512_loadu_ps(at);
  } else {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
}

// The weights of a packed block as 8 groups: 16 outputs x 4 inputs of unsigned bytes each.
template <base::DType F>
inline void UnpackBlock512(const std::byte* block, __m512i* groups) {
  const std::byte* weights = block + HeaderBytesOf(F);
  if constexpr (FormatOf(F).bits == 4) {
    const __m512i mask = _mm512_set1_epi8(0xf);
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      const __m512i both = _mm512_loadu_si512(weights + 64 * g);
      groups[g] = _mm512_and_si512(both, mask);
      groups[g + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
    }
  } else {
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) groups[g] = _mm512_loadu_si512(weights + 64 * g);
  }
}

// The groups [begin, end) times the inputs of one row, whose sum is `sum`, less the offset.
template <base::DType F>
inline __m512i DotGroups512(const __m512i* groups, const int8_t* q, int begin, int end,
                            int32_t sum) {
  constexpr int kShift = FormatOf(F).offset_shift;
  // Two chains: one alone waits for the latency of its instructions.
  __m512i acc[2] = {
      kShift < 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(-(sum << (kShift & 31))),
      _mm512_setzero_si512()};
#pragma GCC unroll 8
  for (int g = begin; g < end; ++g) {
    int32_t four;
    __builtin_memcpy(&four, q + 4 * g, sizeof(four));
    acc[g % 2] = _mm512_dpbusd_epi32(acc[g % 2], groups[g], _mm512_set1_epi32(four));
  }
  return _mm512_add_epi32(acc[0], acc[1]);
}

// acc = fma(scale * x_scale, float(isum), acc)
inline __m512 Combine512(__m512 acc, __m512 scale, float x_scale, __m512i isum) {
  return _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(x_scale)), _mm512_cvtepi32_ps(isum),
                         acc);
}

// acc + the products of one plane of one row.
template <base::DType F>
inline __m512 AddPlane512(__m512 acc, const __m512i* groups, __m512 scale, __m512 second,
                          const QuantizedPlane& x, int row) {
  const int8_t* q = x.q[row];
  const int32_t sum = x.sum[row];
  if constexpr (FormatOf(F).scales == 2) {
    const int32_t half = x.first_half_sum[row];
    acc = Combine512(acc, scale, x.scale[row], DotGroups512<F>(groups, q, 0, 4, half));
    return Combine512(acc, second, x.scale[row], DotGroups512<F>(groups, q, 4, 8, sum - half));
  } else {
    return Combine512(acc, scale, x.scale[row], DotGroups512<F>(groups, q, 0, 8, sum));
  }
}

// 16 outputs x T rows of a product with quantised weights.
template <base::DType F, int T>
void VnniTile(const MatmulTask& task, int panel_index, int row) {
  constexpr BlockFormat kFormat = FormatOf(F);
  constexpr size_t kBytes = PackedBlockBytesOf(F);
  const std::byte* block = task.panels + static_cast<size_t>(panel_index) * task.panel_bytes;
  const QuantizedBlock* x =
      task.xq + static_cast<size_t>(row / kTileRows) * static_cast<size_t>(task.blocks);
  const int r = row % kTileRows;
  __m512 acc[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) acc[t] = _mm512_setzero_ps();
  for (int b = 0; b < task.blocks; ++b, block += kBytes, ++x) {
    __m512i groups[8];
    UnpackBlock512<F>(block, groups);
    const __m512 scale = LoadScales512<F>(block);
    const __m512 second = kFormat.scales == 2 || kFormat.has_min
                              ? LoadScales512<F>(block + ScaleBytesOf(F))
                              : _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      acc[t] = AddPlane512<F>(acc[t], groups, scale, second, x->high, r + t);
    }
    if (AnyFine<T>(x->fine + r)) {
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        if (x->fine[r + t] == 0) continue;
        acc[t] = AddPlane512<F>(acc[t], groups, scale, second, x->low, r + t);
      }
    }
    if constexpr (kFormat.has_min) {
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        acc[t] = _mm512_fmadd_ps(second, _mm512_set1_ps(x->scaled_sum[r + t]), acc[t]);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) Finish<Vec512>(task, row + t, panel_index, Vec512{acc[t]});
}

template <base::DType F>
struct VnniKernel {
  // Computes some rows from `row` on, at most `left` of one tile; returns how many.
  static int Rows(const MatmulTask& task, int panel, int row, int left) {
    switch (left) {
      case 1:
        VnniTile<F, 1>(task, panel, row);
        return 1;
      case 2:
        VnniTile<F, 2>(task, panel, row);
        return 2;
      case 3:
        VnniTile<F, 3>(task, panel, row);
        return 3;
      default:
        break;
    }
    if (left >= 16) {
      VnniTile<F, 16>(task, panel, row);
      return 16;
    }
    if (left >= 8) {
      VnniTile<F, 8>(task, panel, row);
      return 8;
    }
    VnniTile<F, 4>(task, panel, row);
    return 4;
  }

  static void Run(const MatmulTask& task) {
    for (int panel = task.panel_begin; panel < task.panel_end; ++panel) {
      for (int row = task.row_begin; row < task.row_end;) {
        row += Rows(task, panel, row, task.row_end - row);
      }
    }
  }
};

}  // namespace ccoe::compute::cpu
