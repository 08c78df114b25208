#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/types/span.h"

namespace ccoe::base {

// Storage formats of model tensors. The quantised ones are GGUF's (ggml's block layouts).
enum class DType { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K };

struct DTypeInfo {
  std::string_view name;  // "f32", "q4_1", ...
  int block_elements;     // elements of one block; 1 for the float formats
  int block_bytes;        // bytes of one block
};

const DTypeInfo& InfoOf(DType dtype);
inline bool IsQuantized(DType dtype) { return InfoOf(dtype).block_elements > 1; }

// A read-only matrix [rows, cols] in row-major order (a vector has one row); each row is a whole
// number of blocks and rows follow one another without padding. Does not own its data.
struct TensorView {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  absl::Span<const std::byte> data;

  // Bytes of one row, or nullopt if `cols` is not a whole number of blocks.
  std::optional<size_t> RowBytes() const;
  // The bytes of row `row`. Requires a valid view and 0 <= row < rows.
  absl::Span<const std::byte> Row(int64_t row) const;
};

}  // namespace ccoe::base
