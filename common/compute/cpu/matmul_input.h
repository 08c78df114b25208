#pragma once

#include "common/compute/cpu/aligned_memory.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/device.h"

namespace ccoe::compute::cpu {

// The float32 rows, padded with zeros to whole blocks, and under i8b32 their quantised blocks.
class CpuMatmulInput final : public MatmulInput {
 public:
  CpuMatmulInput(int max_rows, int max_cols, bool quantized)
      : max_rows_(max_rows),
        max_blocks_(BlocksOf(max_cols)),
        floats_(static_cast<size_t>(max_rows) * static_cast<size_t>(max_blocks_) * kBlock *
                sizeof(float)),
        quantized_(quantized ? TilesOf(max_rows) * static_cast<size_t>(max_blocks_) *
                                   sizeof(QuantizedBlock)
                             : 0) {}

  static int BlocksOf(int cols) { return (cols + kBlock - 1) / kBlock; }
  static size_t TilesOf(int rows) {
    return static_cast<size_t>((rows + kTileRows - 1) / kTileRows);
  }

  bool allocated() const { return floats_.data() != nullptr && quantized_.data() != nullptr; }
  bool Fits(int rows, int cols) const { return rows <= max_rows_ && BlocksOf(cols) <= max_blocks_; }

  void SetShape(int rows, int cols) {
    rows_ = rows;
    cols_ = cols;
  }
  int rows() const override { return rows_; }
  int cols() const override { return cols_; }
  int blocks() const { return BlocksOf(cols_); }
  size_t stride() const { return static_cast<size_t>(blocks()) * kBlock; }

  float* row(int r) const { return floats_.as<float>() + static_cast<size_t>(r) * stride(); }
  QuantizedBlock* tile(int t) const {
    return quantized_.as<QuantizedBlock>() + static_cast<size_t>(t) * static_cast<size_t>(blocks());
  }

 private:
  const int max_rows_;
  const int max_blocks_;
  int rows_ = 0;
  int cols_ = 0;
  AlignedMemory floats_;
  AlignedMemory quantized_;
};

}  // namespace ccoe::compute::cpu
