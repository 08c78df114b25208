#pragma once

#include <cstddef>
#include <memory>

#include "common/base/mutex.h"

namespace ccoe::compute::cpu {

// Memory for weight matrices in large chunks of huge pages, which read a third faster than small
// ones: a matrix alone is often smaller than one huge page. A chunk is freed with the last matrix
// in it. Thread-safe.
class WeightArena {
 public:
  static constexpr size_t kChunkBytes = size_t{8} << 20;

  // Zeroed memory aligned to a cache line, or null when there is none.
  std::shared_ptr<std::byte> Allocate(size_t bytes);

 private:
  base::Mutex mutex_;
  std::shared_ptr<std::byte> chunk_ ABSL_GUARDED_BY(mutex_);
  size_t used_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::compute::cpu
