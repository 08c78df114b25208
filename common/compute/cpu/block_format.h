#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/tensor_view.h"

namespace ccoe::compute::cpu {

// Inputs of one block: the unit of activation scales and of every float32 combine.
inline constexpr int kBlock = 32;
// Outputs of one panel of packed weights: one per vector lane.
inline constexpr int kPanelRows = 16;

// How a quantised format is held once unpacked: a weight is (u - offset) * scale + min with u an
// unsigned number of at most 8 bits.
struct BlockFormat {
  bool float_format = false;
  int bits = 8;           // packed bits per weight: 4 or 8
  int offset_shift = -1;  // offset = 1 << offset_shift, or none
  bool has_min = false;
  bool wide_scales = false;  // scales and minima are float32 rather than float16
  int scales = 1;            // per block of 32 inputs: 1, or 2 for halves of 16
};

constexpr BlockFormat FormatOf(base::DType dtype) {
  switch (dtype) {
    case base::DType::kF32:
    case base::DType::kF16:
    case base::DType::kBF16:
      return {.float_format = true};
    case base::DType::kQ8_0:
      return {.offset_shift = 7};
    case base::DType::kQ4_0:
      return {.bits = 4, .offset_shift = 3};
    case base::DType::kQ4_1:
      return {.bits = 4, .has_min = true};
    case base::DType::kQ5_0:
      return {.offset_shift = 4};
    case base::DType::kQ5_1:
      return {.has_min = true};
    case base::DType::kQ4_K:
      return {.bits = 4, .has_min = true, .wide_scales = true};
    case base::DType::kQ5_K:
      return {.has_min = true, .wide_scales = true};
    case base::DType::kQ6_K:
      return {.offset_shift = 5, .wide_scales = true, .scales = 2};
  }
  return {};
}

constexpr size_t ScaleBytesOf(base::DType dtype) {
  return kPanelRows * (FormatOf(dtype).wide_scales ? 4u : 2u);
}
// Bytes before the weights of a packed block: the scales of 16 outputs, then their minima.
constexpr size_t HeaderBytesOf(base::DType dtype) {
  const BlockFormat format = FormatOf(dtype);
  return ScaleBytesOf(dtype) * static_cast<size_t>(format.scales + (format.has_min ? 1 : 0));
}
// Bytes of a packed block: 16 outputs x 32 inputs of a quantised format.
constexpr size_t PackedBlockBytesOf(base::DType dtype) {
  return HeaderBytesOf(dtype) + 64u * static_cast<size_t>(FormatOf(dtype).bits);
}

// One block of 32 weights of one row, taken apart.
struct DecodedBlock {
  uint8_t u[kBlock];
  float scale[2];  // [1] only for formats with two scales
  float min;       // 0 for formats without
  uint16_t scale_f16;
  uint16_t min_f16;
};

// 0 for formats without an offset.
int OffsetOf(base::DType dtype);

// Takes block `index` (of 32 values) of a row of a quantised format apart. The layouts are ggml's.
void DecodeBlock(base::DType dtype, const std::byte* row, size_t index, DecodedBlock* block);

// The block of a quantised format that 32 values come to: a scale of the block, or of each half
// where the format has two, such that the extremes of the values can be told; scales and minima are
// rounded to the format's width before the weights are. Formats of super-blocks get a float32 scale
// for each block, as they have once they are unpacked.
void QuantizeBlock(base::DType dtype, const float* values, DecodedBlock* block);

// The float32 values of `cols` weights of one row, to the bit what ggml's definitions give.
void DequantizeRow(base::DType dtype, const std::byte* row, int64_t cols, float* out);

}  // namespace ccoe::compute::cpu
