#pragma once

#include "absl/types/span.h"
#include "common/compute/cpu/aligned_memory.h"
#include "common/compute/device.h"

namespace ccoe::compute::cpu {

// Sine and cosine in double precision by operations that every CPU rounds alike, unlike a library's
// functions. For 0 <= angle < 2^20; the error is below 1e-15.
struct SinCos {
  double sin;
  double cos;
};
SinCos SinCosOf(double angle);

// Per position: head_dim / 2 cosines, then as many sines.
class CpuRopeTable final : public RopeTable {
 public:
  CpuRopeTable(absl::Span<const float> inverse_frequencies, int positions);

  bool allocated() const { return memory_.data() != nullptr; }
  int positions() const { return positions_; }
  int half() const { return half_; }
  const float* cos(int position) const {
    return memory_.as<float>() + static_cast<size_t>(position) * 2 * static_cast<size_t>(half_);
  }
  const float* sin(int position) const { return cos(position) + half_; }

 private:
  const int half_;
  const int positions_;
  AlignedMemory memory_;
};

}  // namespace ccoe::compute::cpu
