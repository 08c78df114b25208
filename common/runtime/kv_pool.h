#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/compute/device.h"

namespace ccoe::runtime {

class KvPool;

// Pages that hold the same kKvPageTokens positions in a session's first layers, one for each layer.
using KvColumn = std::vector<int32_t>;

// The KV pages of one session: a table of pages for each of its layers. Pages may be shared with
// other sessions; shared ones are not to be written. Gives its hold on them back to the pool when
// it goes; moves, does not copy; must not outlive the pool.
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
  // Takes `column` for the `index`-th page of its first layers, and gives back what stood there.
  void Share(int index, const KvColumn& column);
  // Gives back the pages of all but the first `layers` layers.
  void Truncate(int layers);
  void Release();

 private:
  friend class KvPool;
  KvPool* pool_ = nullptr;
  int pages_per_layer_ = 0;
  std::vector<int32_t> pages_;
};

// A fixed budget of KV pages, each free, used by sessions, or cached: kept, and used by none. Owned
// by an engine and used by its thread alone.
class KvPool {
 public:
  // RESOURCE_EXHAUSTED when the device has no room for `page_count` pages.
  static absl::StatusOr<std::unique_ptr<KvPool>> Create(compute::Device& device,
                                                        const compute::KvShape& shape,
                                                        size_t budget_bytes);

  static int PagesFor(int layers, int positions);
  // Reserves pages for `positions` tokens in each of `layers` layers, the first of them the columns
  // of `shared`; nothing is kept on refusal, which is RESOURCE_EXHAUSTED. Reclaims cached pages
  // where that makes room enough.
  absl::StatusOr<KvBlocks> Reserve(int layers, int positions,
                                   absl::Span<const KvColumn> shared = {});

  // Keeps a page that a session holds, and is not kept yet, beyond that session; and ends it.
  void Keep(int32_t page);
  void Drop(int32_t page);
  // Whether a session holds the page.
  bool IsUsed(int32_t page) const { return holders_[page] > 0; }
  // What Reserve calls for cached pages: drops some, or returns false.
  void set_reclaim(std::function<bool()> reclaim) { reclaim_ = std::move(reclaim); }

  compute::KvPages& pages() { return *pages_; }
  int total() const { return pages_->page_count(); }
  int used() const { return used_; }
  int cached() const { return total() - used_ - static_cast<int>(free_.size()); }

 private:
  friend class KvBlocks;
  explicit KvPool(std::unique_ptr<compute::KvPages> pages);
  void Hold(int32_t page);
  void GiveBack(int32_t page);

  std::unique_ptr<compute::KvPages> pages_;
  std::function<bool()> reclaim_;
  std::vector<int32_t> free_;
  int used_ = 0;
  std::vector<int> holders_;  // sessions that hold a page
  std::vector<bool> kept_;
};

}  // namespace ccoe::runtime
