#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/tensor_view.h"
#include "common/compute/cpu/block_format.h"
#include "common/compute/device.h"

// What the inner kernels of a set are given. Files that are compiled for one instruction set see
// plain data only: no inline function of theirs may end up in code that every CPU runs.
namespace ccoe::compute::cpu {

// Rows of activations that share a tile: the rows of one quantised block lie together.
inline constexpr int kTileRows = 16;

// 32 inputs of up to 16 rows as int8: q * scale.
struct alignas(64) QuantizedPlane {
  int8_t q[kTileRows][kBlock];
  float scale[kTileRows];
  int32_t sum[kTileRows];             // of the 32 q
  int32_t first_half_sum[kTileRows];  // of the first 16
};

// Block of 32 inputs of up to 16 rows, quantised: x is the high plane, and where the row's block is
// fine, the low plane, which holds the remainder, as well.
struct QuantizedBlock {
  QuantizedPlane high;
  float scaled_sum[kTileRows];  // of the planes: scale * float(sum)
  uint8_t fine[kTileRows];      // 0 or 1
  QuantizedPlane low;           // set in fine rows only
};

// Of `outputs` in panels of 16, those that one panel has; in a float format so many weights stand
// side by side there.
inline int PanelOutputs(int outputs, int panel) {
  const int left = outputs - panel * kPanelRows;
  return left < kPanelRows ? left : kPanelRows;
}

enum class Epilogue : uint8_t {
  kSet,        // y = v + bias
  kAdd,        // y = y + (v + bias)
  kAddScaled,  // y = fma(scale, v, y)
};

// Rows [row_begin, row_end) x panels [panel_begin, panel_end) of one product.
struct MatmulTask {
  base::DType format = base::DType::kF32;
  const std::byte* panels = nullptr;
  size_t panel_bytes = 0;
  int outputs = 0;
  int inputs = 0;                      // float formats read it
  int blocks = 0;                      // of 32 inputs, the last one perhaps not whole
  const QuantizedBlock* xq = nullptr;  // [tiles of 16 rows][blocks]; quantised formats read it
  const float* x = nullptr;            // [rows][x_stride]; float formats read it
  size_t x_stride = 0;
  int row_begin = 0;  // a multiple of kTileRows when the format is quantised
  int row_end = 0;
  int panel_begin = 0;
  int panel_end = 0;
  float* y = nullptr;
  size_t y_stride = 0;
  const float* bias = nullptr;  // may be null
  Epilogue epilogue = Epilogue::kSet;
  float scale = 1;
};

// Queries of one call of attention, sharing keys and values.
inline constexpr int kMaxQueries = 6;

struct AttentionQuery {
  const float* q = nullptr;  // [head_dim]
  float* out = nullptr;      // [head_dim]
  int position = 0;          // attends to [0, position]
};

struct AttentionTask {
  const AttentionQuery* queries = nullptr;
  int query_count = 0;  // 1..kMaxQueries
  const int32_t* pages = nullptr;
  const std::byte* pool = nullptr;  // all pages
  size_t page_bytes = 0;
  size_t key_offset = 0;    // of the head's keys in a page: [head_dim][32 tokens]
  size_t value_offset = 0;  // of its values: [32 tokens][value_stride]
  int head_dim = 0;
  int value_stride = 0;  // head_dim rounded up to 16
  float scale = 1;
  float* scores = nullptr;  // scratch: [query_count][score_stride]
  size_t score_stride = 0;  // at least the largest position + 1, rounded up to 32
  float* sums = nullptr;    // scratch: [query_count][value_stride]
};

struct KernelTable {
  CpuKernels kernels = CpuKernels::kScalar;
  void (*matmul)(const MatmulTask& task) = nullptr;
  // Quantises one row of `blocks` blocks into row `row` of its tile.
  void (*quantize)(const float* x, int blocks, int row, QuantizedBlock* tile) = nullptr;
  // out may be x.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int n, float* out) = nullptr;
  void (*swiglu)(const float* gate, const float* up, int n, float* out) = nullptr;
  // Rotates one head in place; `cos` and `sin` have head_dim / 2 values.
  void (*rope)(float* x, int head_dim, const float* cos, const float* sin) = nullptr;
  void (*to_half)(const float* from, int n, uint16_t* to) = nullptr;
  void (*attention_f32)(const AttentionTask& task) = nullptr;
  void (*attention_f16)(const AttentionTask& task) = nullptr;
};

const KernelTable& ScalarKernels();
const KernelTable& Avx2Kernels();
const KernelTable& Avx512VnniKernels();
const KernelTable& AmxKernels();

// A block whose largest value exceeds this many times the row's root mean square is fine.
inline constexpr float kFineRatio = 4.0f;

// Constants of the exponential function; docs/arithmetic.md has the sequence of operations.
inline constexpr float kExpLow = -87.0f;  // below: 0
inline constexpr float kExpHigh = 88.0f;  // above: as here
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kMinusLn2High = -0.693359375f;
inline constexpr float kMinusLn2Low = 2.12194440e-4f;
inline constexpr float kExpPolynomial[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                           4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};

}  // namespace ccoe::compute::cpu
