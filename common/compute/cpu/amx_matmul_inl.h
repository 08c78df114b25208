#pragma once

#include <immintrin.h>

#include "common/compute/cpu/avx512_blocks_inl.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/matmul_inl.h"
#include "common/compute/cpu/vec_avx512.h"

namespace ccoe::compute::cpu {

// Products by tile instructions: 16 rows x 16 outputs x 32 inputs at a time, then the same float32
// combine as everywhere. `Tiles` has
//   static void Begin();  // configures the calling thread
//   static void End();
//   // c[16][16] = a[16][32] (signed) times b[8][16][4] (unsigned)
//   static void Multiply(const int8_t* a, const std::byte* b, int32_t* c);
template <class Tiles>
struct AmxProducts {
  // Fewer rows than this go by dot products: a tile costs the same for one row as for sixteen.
  static constexpr int kLeastRows = 5;
  // Blocks unpacked at a time.
  static constexpr int kChunk = 8;
  static constexpr size_t kTileBytes = 512;

  template <base::DType F>
  static constexpr bool kUnpacks = FormatOf(F).bits == 4 || FormatOf(F).scales == 2;

  // The weights of a block for each of its scales, as 8 groups of 64 bytes; with two scales the
  // other half's groups are zero.
  template <base::DType F>
  static void Unpack(const std::byte* block, std::byte* to) {
    __m512i groups[8];
    UnpackBlock512<F>(block, groups);
    constexpr int kScales = FormatOf(F).scales;
    for (int part = 0; part < kScales; ++part) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g, to += 64) {
        const bool own = kScales == 1 || g / 4 == part;
        _mm512_store_si512(to, own ? groups[g] : _mm512_setzero_si512());
      }
    }
  }

  // acc[t] += the combined products of one plane with one scale of a block, for 16 rows; `fine`
  // leaves rows out, or is null.
  template <base::DType F>
  static void CombineRows(const int32_t* c, const std::byte* scale_at, const QuantizedPlane& x,
                          int part, const uint8_t* fine, __m512* acc) {
    constexpr int kShift = FormatOf(F).offset_shift;
    const __m512 scale = LoadScales512<F>(scale_at);
#pragma GCC unroll 16
    for (int t = 0; t < kTileRows; ++t) {
      if (fine != nullptr && fine[t] == 0) continue;
      __m512i isum = _mm512_load_si512(c + 16 * t);
      if constexpr (kShift >= 0) {
        int32_t sum = x.sum[t];
        if constexpr (FormatOf(F).scales == 2) {
          sum = part == 0 ? x.first_half_sum[t] : x.sum[t] - x.first_half_sum[t];
        }
        isum = _mm512_sub_epi32(isum, _mm512_set1_epi32(sum << (kShift & 31)));
      }
      acc[t] = Combine512(acc[t], scale, x.scale[t], isum);
    }
  }

  template <base::DType F>
  static void Tile(const MatmulTask& task, int panel, int row, int rows) {
    constexpr BlockFormat kFormat = FormatOf(F);
    constexpr int kScales = kFormat.scales;
    alignas(64) std::byte unpacked[kUnpacks<F> ? kChunk * kScales * kTileBytes : 1];
    alignas(64) int32_t c[2][kTileRows * kPanelRows];
    const std::byte* block = task.panels + static_cast<size_t>(panel) * task.panel_bytes;
    const QuantizedBlock* x =
        task.xq + static_cast<size_t>(row / kTileRows) * static_cast<size_t>(task.blocks);
    __m512 acc[kTileRows];
#pragma GCC unroll 16
    for (int t = 0; t < kTileRows; ++t) acc[t] = _mm512_setzero_ps();
    for (int begin = 0; begin < task.blocks; begin += kChunk) {
      const int count = task.blocks - begin < kChunk ? task.blocks - begin : kChunk;
      if constexpr (kUnpacks<F>) {
        for (int i = 0; i < count; ++i) {
          Unpack<F>(block + static_cast<size_t>(i) * PackedBlockBytesOf(F),
                    unpacked + static_cast<size_t>(i * kScales) * kTileBytes);
        }
      }
      for (int i = 0; i < count; ++i, block += PackedBlockBytesOf(F), ++x) {
        const auto add_plane = [&](const QuantizedPlane& plane, const uint8_t* fine) {
          for (int part = 0; part < kScales; ++part) {
            const std::byte* weights = block + HeaderBytesOf(F);
            if constexpr (kUnpacks<F>) {
              weights = unpacked + static_cast<size_t>(i * kScales + part) * kTileBytes;
            }
            int32_t* to = c[(i * kScales + part) & 1];
            Tiles::Multiply(plane.q[0], weights, to);
            CombineRows<F>(to, block + static_cast<size_t>(part) * ScaleBytesOf(F), plane, part,
                           fine, acc);
          }
        };
        add_plane(x->high, nullptr);
        if (AnyFine<kTileRows>(x->fine)) add_plane(x->low, x->fine);
        if constexpr (kFormat.has_min) {
          const __m512 min = LoadScales512<F>(block + ScaleBytesOf(F));
#pragma GCC unroll 16
          for (int t = 0; t < kTileRows; ++t) {
            acc[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(x->scaled_sum[t]), acc[t]);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTileRows; ++t) {
      if (t < rows) Finish<Vec512>(task, row + t, panel, Vec512{acc[t]});
    }
  }

  template <base::DType F>
  struct Kernel {
    static void Run(const MatmulTask& task) {
      MatmulTask few = task;
      const int rest = (task.row_end - task.row_begin) % kTileRows;
      if (rest < kLeastRows) {
        few.row_begin = task.row_end - rest;
      } else {
        few.row_begin = task.row_end;
      }
      if (few.row_begin > task.row_begin) {
        Tiles::Begin();
        for (int panel = task.panel_begin; panel < task.panel_end; ++panel) {
          for (int row = task.row_begin; row < few.row_begin; row += kTileRows) {
            const int left = few.row_begin - row;
            Tile<F>(task, panel, row, left < kTileRows ? left : kTileRows);
          }
        }
        Tiles::End();
      }
      if (few.row_begin < few.row_end) VnniKernel<F>::Run(few);
    }
  };

  static void Matmul(const MatmulTask& task) { DispatchMatmul<Kernel, Vec512>(task); }
};

}  // namespace ccoe::compute::cpu
