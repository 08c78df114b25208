#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/base/tensor_view.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/thread_pool.h"
#include "common/compute/cpu/weight_arena.h"
#include "common/compute/device.h"

namespace ccoe::compute::cpu {

// A weight matrix as panels of 16 outputs. Within a panel the inputs ascend in blocks of 32.
//
//   quantised format, the last panel padded with zero weights, per block: 16 scales [, 16 second
//   scales] [, 16 minima], then the weights as unsigned bytes in groups of 4 inputs: 16 outputs x 4
//   bytes. Eight-bit formats have groups 0..7 in turn; four-bit formats have group g in the low and
//   group g + 4 in the high nibbles of the same 64 bytes.
//
//   float format, per input: 16 weights, in the last panel as many as it has outputs. 64 bytes
//   behind the last one may be read.
class PackedMatrix final : public Matrix {
 public:
  // Holds a weight in `format`: its own, kF32, or a quantised one of a float weight.
  // INVALID_ARGUMENT for shapes that are impossible, disagree with the data, or are no whole blocks
  // of a format to quantise to; RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(const base::TensorView& weight,
                                                            base::DType format, WeightArena& arena,
                                                            ThreadPool& pool);

  int rows() const override { return rows_; }
  int cols() const override { return cols_; }
  size_t bytes() const override { return bytes_; }

  base::DType format() const { return format_; }
  int panels() const { return panels_; }
  int blocks() const { return blocks_; }
  size_t panel_bytes() const { return panel_bytes_; }
  const std::byte* data() const { return memory_.get(); }

  // The float32 values of one row: what dequantising it from its format gives.
  void ReadRow(int row, float* out) const;

 private:
  PackedMatrix() = default;

  void PackPanel(const base::TensorView& weight, int panel);
  void PackQuantizedPanel(const base::TensorView& weight, int panel);
  void QuantizePanel(const base::TensorView& weight, int panel);
  void PackFloatPanel(const base::TensorView& weight, int panel);

  base::DType format_ = base::DType::kF32;
  int rows_ = 0;
  int cols_ = 0;
  int panels_ = 0;
  int blocks_ = 0;
  size_t panel_bytes_ = 0;  // of all panels but the last, which may have fewer
  size_t bytes_ = 0;
  std::shared_ptr<std::byte> memory_;
};

// The shape of a tensor view agrees with its data, and is not empty.
absl::Status CheckView(const base::TensorView& view);

}  // namespace ccoe::compute::cpu
