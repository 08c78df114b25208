#include "common/compute/cpu/block_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/base/check.h"
#include "common/base/half.h"

namespace ccoe::compute::cpu {
namespace {

using base::Bf16ToFloat;
using base::DType;
using base::HalfToFloat;

uint16_t ReadU16(const std::byte* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// Low nibbles are inputs 0..15, high nibbles 16..31.
void SplitNibbles(const uint8_t* packed, uint8_t* u) {
  for (int i = 0; i < 16; ++i) {
    u[i] = packed[i] & 0xf;
    u[i + 16] = packed[i] >> 4;
  }
}

void DecodeSimple(DType dtype, const std::byte* at, DecodedBlock* block) {
  const bool has_min = dtype == DType::kQ4_1 || dtype == DType::kQ5_1;
  block->scale_f16 = ReadU16(at);
  block->min_f16 = has_min ? ReadU16(at + 2) : 0;
  block->scale[0] = HalfToFloat(block->scale_f16);
  block->min = HalfToFloat(block->min_f16);
  const auto* bytes = reinterpret_cast<const uint8_t*>(at) + (has_min ? 4 : 2);
  if (dtype == DType::kQ8_0) {
    for (int i = 0; i < kBlock; ++i) block->u[i] = bytes[i] ^ 0x80;
    return;
  }
  if (dtype == DType::kQ4_0 || dtype == DType::kQ4_1) {
    SplitNibbles(bytes, block->u);
    return;
  }
  uint32_t high;
  std::memcpy(&high, bytes, sizeof(high));
  SplitNibbles(bytes + 4, block->u);
  for (int i = 0; i < kBlock; ++i) {
    block->u[i] = static_cast<uint8_t>(block->u[i] | ((high >> i) & 1u) << 4);
  }
}

// Six-bit scale and minimum number `index` of a K-quant's 12 bytes.
void DecodeScaleMin(const uint8_t* packed, size_t index, int* scale, int* min) {
  if (index < 4) {
    *scale = packed[index] & 63;
    *min = packed[index + 4] & 63;
  } else {
    *scale = (packed[index + 4] & 0xf) | (packed[index - 4] >> 6) << 4;
    *min = (packed[index + 4] >> 4) | (packed[index] >> 6) << 4;
  }
}

// Block `index` in [0, 8) of a Q4_K or Q5_K super-block of 256.
void DecodeK45(DType dtype, const std::byte* at, size_t index, DecodedBlock* block) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(at);
  int scale;
  int min;
  DecodeScaleMin(bytes + 4, index, &scale, &min);
  block->scale[0] = HalfToFloat(ReadU16(at)) * static_cast<float>(scale);
  block->min = -(HalfToFloat(ReadU16(at + 2)) * static_cast<float>(min));
  const uint8_t* high = bytes + 16;
  const uint8_t* low = (dtype == DType::kQ5_K ? high + 32 : high) + 32 * (index / 2);
  const int shift = index % 2 == 0 ? 0 : 4;
  for (int i = 0; i < kBlock; ++i) {
    block->u[i] = (low[i] >> shift) & 0xf;
    if (dtype == DType::kQ5_K) {
      block->u[i] = static_cast<uint8_t>(block->u[i] | ((high[i] >> index) & 1) << 4);
    }
  }
}

// Block `index` in [0, 8) of a Q6_K super-block of 256.
void DecodeK6(const std::byte* at, size_t index, DecodedBlock* block) {
  const size_t half = index / 4;     // which 128 values
  const size_t quarter = index % 4;  // which 32 of them
  const auto* bytes = reinterpret_cast<const uint8_t*>(at);
  const uint8_t* low = bytes + 64 * half + 32 * (quarter % 2);
  const uint8_t* high = bytes + 128 + 32 * half;
  const auto* scales = reinterpret_cast<const int8_t*>(bytes + 192) + 2 * index;
  const float d = HalfToFloat(ReadU16(at + 208));
  const int low_shift = quarter < 2 ? 0 : 4;
  for (int i = 0; i < kBlock; ++i) {
    block->u[i] =
        static_cast<uint8_t>(((low[i] >> low_shift) & 0xf) | ((high[i] >> (2 * quarter)) & 3) << 4);
  }
  block->scale[0] = d * static_cast<float>(scales[0]);
  block->scale[1] = d * static_cast<float>(scales[1]);
  block->min = 0;
}

// The largest u of a format.
int LargestOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return 255;
    case DType::kQ6_K:
      return 63;
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ5_K:
      return 31;
    default:
      return 15;
  }
}

}  // namespace

int OffsetOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return 128;
    case DType::kQ4_0:
      return 8;
    case DType::kQ5_0:
      return 16;
    case DType::kQ6_K:
      return 32;
    default:
      return 0;
  }
}

void DecodeBlock(DType dtype, const std::byte* row, size_t index, DecodedBlock* block) {
  const auto& info = base::InfoOf(dtype);
  const size_t per_file_block = static_cast<size_t>(info.block_elements) / kBlock;
  CCOE_CHECK(per_file_block > 0);
  const std::byte* at = row + index / per_file_block * static_cast<size_t>(info.block_bytes);
  switch (dtype) {
    case DType::kQ4_K:
    case DType::kQ5_K:
      return DecodeK45(dtype, at, index % per_file_block, block);
    case DType::kQ6_K:
      return DecodeK6(at, index % per_file_block, block);
    default:
      return DecodeSimple(dtype, at, block);
  }
}

void QuantizeBlock(DType dtype, const float* values, DecodedBlock* block) {
  const BlockFormat format = FormatOf(dtype);
  const int largest = LargestOf(dtype);
  const int offset = OffsetOf(dtype);
  const auto rounded = [&](float value, uint16_t* narrow) {
    *narrow = base::FloatToHalf(value);
    return format.wide_scales ? value : HalfToFloat(*narrow);
  };
  block->min = 0;
  block->min_f16 = 0;
  const int part = kBlock / format.scales;
  for (int begin = 0; begin < kBlock; begin += part) {
    const auto [least, most] = std::minmax_element(values + begin, values + begin + part);
    float scale;
    if (format.has_min) {
      block->min = rounded(*least, &block->min_f16);
      scale = (*most - block->min) / static_cast<float>(largest);
    } else {
      // The value furthest from zero gets the number with the most room: 0, below the offset.
      scale = (*most > -*least ? *most : *least) / static_cast<float>(-offset);
    }
    scale = rounded(scale, &block->scale_f16);
    block->scale[begin / part] = scale;
    const float inverse = scale == 0 ? 0 : 1 / scale;
    for (int i = begin; i < begin + part; ++i) {
      const float u =
          std::nearbyint((values[i] - block->min) * inverse) + static_cast<float>(offset);
      // Not a number: 0.
      block->u[i] = u > 0 ? static_cast<uint8_t>(std::min(u, static_cast<float>(largest))) : 0;
    }
  }
}

void DequantizeRow(DType dtype, const std::byte* row, int64_t cols, float* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
    return;
  }
  if (dtype == DType::kF16 || dtype == DType::kBF16) {
    for (int64_t i = 0; i < cols; ++i) {
      const uint16_t bits = ReadU16(row + 2 * i);
      out[i] = dtype == DType::kF16 ? HalfToFloat(bits) : Bf16ToFloat(bits);
    }
    return;
  }
  const int offset = OffsetOf(dtype);
  const bool two_scales = dtype == DType::kQ6_K;
  const bool has_min = offset == 0;
  DecodedBlock block;
  for (int64_t b = 0; b < cols / kBlock; ++b) {
    DecodeBlock(dtype, row, static_cast<size_t>(b), &block);
    for (int i = 0; i < kBlock; ++i) {
      const float scale = block.scale[two_scales ? i / 16 : 0];
      const float product = static_cast<float>(block.u[i] - offset) * scale;
      *out++ = has_min ? product + block.min : product;  // adding zero would lose a sign
    }
  }
}

}  // namespace ccoe::compute::cpu
