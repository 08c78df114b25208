#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/base/half.h"
#include "common/compute/cpu/kernels.h"

// The oracle: every operation of docs/arithmetic.md in its plainest form. The other sets give the
// same bits.
namespace ccoe::compute::cpu {
namespace {

using base::Bf16ToFloat;
using base::DType;
using base::FloatToHalf;
using base::HalfToFloat;

// As the instructions do it: the second operand when either is NaN.
float Min(float a, float b) { return a < b ? a : b; }
float Max(float a, float b) { return a > b ? a : b; }

float Exp(float x) {
  if (std::isnan(x)) return x;
  if (x < kExpLow) return 0;
  const float c = Min(kExpHigh, x);
  const float n = std::nearbyint(c * kLog2E);
  float r = std::fma(n, kMinusLn2High, c);
  r = std::fma(n, kMinusLn2Low, r);
  float p = kExpPolynomial[0];
  for (int i = 1; i < 6; ++i) p = std::fma(p, r, kExpPolynomial[i]);
  const float y = std::fma(r * r, p, r) + 1.0f;
  return y * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

// Sixteen lanes into one: i with i + 8, then + 4, + 2, + 1.
float TreeSum(float* lanes) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] + lanes[i + half];
  }
  return lanes[0];
}

// --- products ---

float ReadScale(const std::byte* at, int lane, bool wide) {
  if (wide) {
    float value;
    std::memcpy(&value, at + 4 * lane, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, at + 2 * lane, sizeof(half));
  return HalfToFloat(half);
}

template <DType F>
float DotQuantized(const MatmulTask& task, int row, int output) {
  constexpr BlockFormat kFormat = FormatOf(F);
  constexpr int kOffset = kFormat.offset_shift < 0 ? 0 : 1 << kFormat.offset_shift;
  constexpr int kPart = kBlock / kFormat.scales;
  const int lane = output % kPanelRows;
  const std::byte* panel =
      task.panels + static_cast<size_t>(output / kPanelRows) * task.panel_bytes;
  const QuantizedBlock* tile =
      task.xq + static_cast<size_t>(row / kTileRows) * static_cast<size_t>(task.blocks);
  const int r = row % kTileRows;
  float acc = 0;
  const auto add_plane = [&](const std::byte* block, const QuantizedPlane& x) {
    const auto* weights = reinterpret_cast<const uint8_t*>(block + HeaderBytesOf(F));
    for (int part = 0; part < kFormat.scales; ++part) {
      int32_t isum = 0;
      for (int i = part * kPart; i < (part + 1) * kPart; ++i) {
        const int group = i / 4;
        int u;
        if constexpr (kFormat.bits == 4) {
          const int byte = weights[(group % 4) * 64 + lane * 4 + i % 4];
          u = group < 4 ? byte & 0xf : byte >> 4;
        } else {
          u = weights[group * 64 + lane * 4 + i % 4];
        }
        isum += (u - kOffset) * x.q[r][i];
      }
      const float d =
          ReadScale(block + static_cast<size_t>(part) * ScaleBytesOf(F), lane, kFormat.wide_scales);
      acc = std::fma(d * x.scale[r], static_cast<float>(isum), acc);
    }
  };
  for (int b = 0; b < task.blocks; ++b) {
    const std::byte* block = panel + static_cast<size_t>(b) * PackedBlockBytesOf(F);
    add_plane(block, tile[b].high);
    if (tile[b].fine[r] != 0) add_plane(block, tile[b].low);
    if constexpr (kFormat.has_min) {
      const float m = ReadScale(block + ScaleBytesOf(F), lane, kFormat.wide_scales);
      acc = std::fma(m, tile[b].scaled_sum[r], acc);
    }
  }
  return acc;
}

template <DType F>
float WeightAt(const std::byte* panel, size_t index) {
  if constexpr (F == DType::kF32) {
    float value;
    std::memcpy(&value, panel + 4 * index, sizeof(value));
    return value;
  } else {
    uint16_t bits;
    std::memcpy(&bits, panel + 2 * index, sizeof(bits));
    return F == DType::kF16 ? HalfToFloat(bits) : Bf16ToFloat(bits);
  }
}

template <DType F>
float DotFloat(const MatmulTask& task, int row, int output) {
  const std::byte* panel =
      task.panels + static_cast<size_t>(output / kPanelRows) * task.panel_bytes;
  const size_t lane = static_cast<size_t>(output % kPanelRows);
  const size_t lanes = static_cast<size_t>(PanelOutputs(task.outputs, output / kPanelRows));
  const float* x = task.x + static_cast<size_t>(row) * task.x_stride;
  float acc = 0;
  for (int b = 0; b < task.blocks; ++b) {
    float partial = 0;
    const int end = std::min(task.inputs, (b + 1) * kBlock);
    for (int i = b * kBlock; i < end; ++i) {
      const float w = WeightAt<F>(panel, static_cast<size_t>(i) * lanes + lane);
      partial = std::fma(w, x[i], partial);
    }
    acc = acc + partial;
  }
  return acc;
}

template <typename Dot>
void ForEachOutput(const MatmulTask& task, Dot dot) {
  const int end = std::min(task.outputs, task.panel_end * kPanelRows);
  for (int row = task.row_begin; row < task.row_end; ++row) {
    float* y = task.y + static_cast<size_t>(row) * task.y_stride;
    for (int o = task.panel_begin * kPanelRows; o < end; ++o) {
      const float v = dot(task, row, o) + (task.bias != nullptr ? task.bias[o] : 0.0f);
      switch (task.epilogue) {
        case Epilogue::kSet:
          y[o] = v;
          break;
        case Epilogue::kAdd:
          y[o] = y[o] + v;
          break;
        case Epilogue::kAddScaled:
          y[o] = std::fma(task.scale, v, y[o]);
          break;
      }
    }
  }
}

void Matmul(const MatmulTask& task) {
  switch (task.format) {
    case DType::kF32:
      return ForEachOutput(task, DotFloat<DType::kF32>);
    case DType::kF16:
      return ForEachOutput(task, DotFloat<DType::kF16>);
    case DType::kBF16:
      return ForEachOutput(task, DotFloat<DType::kBF16>);
    case DType::kQ8_0:
      return ForEachOutput(task, DotQuantized<DType::kQ8_0>);
    case DType::kQ4_0:
      return ForEachOutput(task, DotQuantized<DType::kQ4_0>);
    case DType::kQ4_1:
      return ForEachOutput(task, DotQuantized<DType::kQ4_1>);
    case DType::kQ5_0:
      return ForEachOutput(task, DotQuantized<DType::kQ5_0>);
    case DType::kQ5_1:
      return ForEachOutput(task, DotQuantized<DType::kQ5_1>);
    case DType::kQ4_K:
      return ForEachOutput(task, DotQuantized<DType::kQ4_K>);
    case DType::kQ5_K:
      return ForEachOutput(task, DotQuantized<DType::kQ5_K>);
    case DType::kQ6_K:
      return ForEachOutput(task, DotQuantized<DType::kQ6_K>);
  }
}

// --- element by element ---

float SumOfSquares(const float* x, int n) {
  float lanes[16] = {};
  for (int i = 0; i < n; ++i) lanes[i % 16] = std::fma(x[i], x[i], lanes[i % 16]);
  return TreeSum(lanes);
}

void QuantizePlane(const float* x, float scale, int row, QuantizedPlane* plane) {
  int32_t halves[2] = {0, 0};
  for (int i = 0; i < kBlock; ++i) {
    int32_t q = 0;
    if (scale > 0) {
      q = static_cast<int32_t>(Min(127.0f, Max(-127.0f, std::nearbyint(x[i] / scale))));
    }
    plane->q[row][i] = static_cast<int8_t>(q);
    halves[i / 16] += q;
  }
  plane->scale[row] = scale;
  plane->sum[row] = halves[0] + halves[1];
  plane->first_half_sum[row] = halves[0];
}

void Quantize(const float* x, int blocks, int row, QuantizedBlock* tile) {
  const int n = blocks * kBlock;
  const float limit = kFineRatio * std::sqrt(SumOfSquares(x, n) / static_cast<float>(n));
  for (int b = 0; b < blocks; ++b, x += kBlock, ++tile) {
    uint32_t bits = 0;  // of the largest |x|: NaN above infinity above every number
    for (int i = 0; i < kBlock; ++i) {
      bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
    }
    const float largest = std::bit_cast<float>(bits);
    const float scale =
        bits < 0x7f800000u ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
    QuantizePlane(x, scale, row, &tile->high);
    tile->scaled_sum[row] = scale * static_cast<float>(tile->high.sum[row]);
    tile->fine[row] = largest > limit ? 1 : 0;
    if (tile->fine[row] == 0) continue;
    float rest[kBlock];
    for (int i = 0; i < kBlock; ++i) rest[i] = std::fma(0.0f - scale, tile->high.q[row][i], x[i]);
    const float low_scale = scale / 254.0f;
    QuantizePlane(rest, low_scale, row, &tile->low);
    tile->scaled_sum[row] =
        std::fma(low_scale, static_cast<float>(tile->low.sum[row]), tile->scaled_sum[row]);
  }
}

void RmsNorm(const float* x, const float* weight, float epsilon, int n, float* out) {
  const float r = 1.0f / std::sqrt(SumOfSquares(x, n) / static_cast<float>(n) + epsilon);
  for (int i = 0; i < n; ++i) out[i] = x[i] * r * weight[i];
}

void SwiGlu(const float* gate, const float* up, int n, float* out) {
  for (int i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + Exp(0.0f - gate[i])) * up[i];
}

void Rope(float* x, int head_dim, const float* cos, const float* sin) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; ++i) {
    const float a = x[i];
    const float b = x[i + half];
    x[i] = std::fma(a, cos[i], 0.0f - b * sin[i]);
    x[i + half] = std::fma(b, cos[i], a * sin[i]);
  }
}

void ToHalf(const float* from, int n, uint16_t* to) {
  for (int i = 0; i < n; ++i) to[i] = FloatToHalf(from[i]);
}

// --- attention ---

float FromStored(float value) { return value; }
float FromStored(uint16_t value) { return HalfToFloat(value); }

template <typename Stored>
void AttendOne(const AttentionTask& task, const AttentionQuery& query, float* scores, float* sums) {
  const int count = query.position + 1;
  const auto page = [&](int position) {
    return task.pool + static_cast<size_t>(task.pages[position / kKvPageTokens]) * task.page_bytes;
  };
  float largest = -std::numeric_limits<float>::infinity();
  for (int j = 0; j < count; ++j) {
    const auto* keys = reinterpret_cast<const Stored*>(page(j) + task.key_offset);
    float dot = 0;
    for (int d = 0; d < task.head_dim; ++d) {
      dot = std::fma(FromStored(keys[d * kKvPageTokens + j % kKvPageTokens]), query.q[d], dot);
    }
    scores[j] = dot * task.scale;
    largest = Max(scores[j], largest);
  }
  float lanes[16] = {};
  std::fill_n(sums, task.head_dim, 0.0f);
  for (int begin = 0; begin < count; begin += kKvPageTokens) {
    const int end = std::min(count, begin + kKvPageTokens);
    float p[kKvPageTokens] = {};
    for (int j = begin; j < end; ++j) p[j - begin] = Exp(scores[j] - largest);
    for (int i = 0; i < 16; ++i) lanes[i] = lanes[i] + (p[i] + p[i + 16]);
    const auto* values = reinterpret_cast<const Stored*>(page(begin) + task.value_offset);
    for (int d = 0; d < task.head_dim; ++d) {
      float partial = 0;
      for (int j = 0; j < end - begin; ++j) {
        partial = std::fma(FromStored(values[j * task.value_stride + d]), p[j], partial);
      }
      sums[d] = sums[d] + partial;
    }
  }
  const float total = TreeSum(lanes);
  for (int d = 0; d < task.head_dim; ++d) query.out[d] = sums[d] / total;
}

template <typename Stored>
void Attention(const AttentionTask& task) {
  for (int i = 0; i < task.query_count; ++i) {
    const auto n = static_cast<size_t>(i);
    AttendOne<Stored>(task, task.queries[i], task.scores + n * task.score_stride,
                      task.sums + n * static_cast<size_t>(task.value_stride));
  }
}

}  // namespace

const KernelTable& ScalarKernels() {
  static constexpr KernelTable kTable = {
      .kernels = CpuKernels::kScalar,
      .matmul = Matmul,
      .quantize = Quantize,
      .rms_norm = RmsNorm,
      .swiglu = SwiGlu,
      .rope = Rope,
      .to_half = ToHalf,
      .attention_f32 = Attention<float>,
      .attention_f16 = Attention<uint16_t>,
  };
  return kTable;
}

}  // namespace ccoe::compute::cpu
