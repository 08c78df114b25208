#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/compute/device.h"

namespace ccoe::runtime {

class KvPool;

// The KV pages of one session: a table of pages for each of its layers. Gives the pages back to its
// pool when it goes; moves, does not copy; must not outlive the pool.
class KvBlocks {
 public:
  KvBlocks() = default;
  KvBlocks(KvBlocks&& other) noexcept { *this = std::move(other); }
  KvBlocks& operator=(KvBlocks&& other) noexcept;
  ~KvBlocks() { Release(); }

  // The pages of the session's `index`-th layer, ascending positions.
  const int32_t* Table(int index) const {
    return pages_.data() + static_cast<size_t>(index) * pages_per_layer_;
  }
  int page_count() const { return static_cast<int>(pages_.size()); }
  // Gives back the pages of all but the first `layers` layers.
  void Truncate(int layers);
  void Release();

 private:
  friend class KvPool;
  KvPool* pool_ = nullptr;
  int pages_per_layer_ = 0;
  std::vector<int32_t> pages_;
};

// A fixed budget of KV pages. Owned by an engine and used by its thread alone.
class KvPool {
 public:
  // RESOURCE_EXHAUSTED when the device has no room for `page_count` pages.
  static absl::StatusOr<std::unique_ptr<KvPool>> Create(compute::Device& device,
                                                        const compute::KvShape& shape,
                                                        size_t budget_bytes);

  static int PagesFor(int layers, int positions);
  // Reserves pages for `positions` tokens in each of `layers` layers; nothing is kept on refusal,
  // which is RESOURCE_EXHAUSTED.
  absl::StatusOr<KvBlocks> Reserve(int layers, int positions);

  compute::KvPages& pages() { return *pages_; }
  int total() const { return pages_->page_count(); }
  int used() const { return total() - static_cast<int>(free_.size()); }

 private:
  friend class KvBlocks;
  explicit KvPool(std::unique_ptr<compute::KvPages> pages);

  std::unique_ptr<compute::KvPages> pages_;
  std::vector<int32_t> free_;
};

}  // namespace ccoe::runtime
