#pragma once

#include "common/compute/cpu/aligned_memory.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/device.h"

namespace ccoe::compute::cpu {

// Pages one after another. A page has, per key-value head, the keys [head_dim][32 tokens], then the
// values [32 tokens][head_dim rounded up to 16]; float32 under `exact`, float16 under i8b32.
class CpuKvPages final : public KvPages {
 public:
  CpuKvPages(const KvShape& shape, int page_count, bool half)
      : shape_(shape),
        page_count_(page_count),
        element_bytes_(half ? 2 : 4),
        value_stride_((shape.head_dim + 15) / 16 * 16),
        key_bytes_(static_cast<size_t>(shape.head_dim) * kKvPageTokens * element_bytes_),
        head_bytes_(key_bytes_ +
                    static_cast<size_t>(value_stride_) * kKvPageTokens * element_bytes_),
        memory_(static_cast<size_t>(page_count) * page_bytes()) {}

  bool allocated() const { return memory_.data() != nullptr; }
  int page_count() const override { return page_count_; }
  size_t page_bytes() const override { return static_cast<size_t>(shape_.kv_heads) * head_bytes_; }

  const KvShape& shape() const { return shape_; }
  bool half() const { return element_bytes_ == 2; }
  int value_stride() const { return value_stride_; }
  size_t key_offset(int head) const { return static_cast<size_t>(head) * head_bytes_; }
  size_t value_offset(int head) const { return key_offset(head) + key_bytes_; }
  std::byte* page(int index) const {
    return memory_.data() + static_cast<size_t>(index) * page_bytes();
  }

 private:
  const KvShape shape_;
  const int page_count_;
  const size_t element_bytes_;
  const int value_stride_;
  const size_t key_bytes_;
  const size_t head_bytes_;
  const AlignedMemory memory_;
};

}  // namespace ccoe::compute::cpu
