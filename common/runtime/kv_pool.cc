#include "common/runtime/kv_pool.h"

#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace ccoe::runtime {

KvBlocks& KvBlocks::operator=(KvBlocks&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    pages_per_layer_ = std::exchange(other.pages_per_layer_, 0);
    pages_ = std::exchange(other.pages_, {});
  }
  return *this;
}

void KvBlocks::Release() {
  for (int32_t page : pages_) pool_->GiveBack(page);
  pool_ = nullptr;
  pages_.clear();
}

void KvBlocks::Share(int index, const KvColumn& column) {
  for (size_t layer = 0; layer < column.size(); ++layer) {
    int32_t& page = pages_[layer * pages_per_layer_ + index];
    pool_->Hold(column[layer]);
    pool_->GiveBack(std::exchange(page, column[layer]));
  }
}

void KvBlocks::Truncate(int layers) {
  const size_t kept = static_cast<size_t>(layers) * pages_per_layer_;
  while (pages_.size() > kept) {
    pool_->GiveBack(pages_.back());
    pages_.pop_back();
  }
}

KvPool::KvPool(std::unique_ptr<compute::KvPages> pages)
    : pages_(std::move(pages)),
      free_(pages_->page_count()),
      holders_(pages_->page_count(), 0),
      kept_(pages_->page_count(), false) {
  // Taken from the back: low pages first, so that a small load touches little memory at first.
  std::iota(free_.rbegin(), free_.rend(), 0);
}

absl::StatusOr<std::unique_ptr<KvPool>> KvPool::Create(compute::Device& device,
                                                       const compute::KvShape& shape,
                                                       size_t budget_bytes) {
  // A page's size is the device's business: ask it with the smallest pool there is.
  CCOE_ASSIGN_OR_RETURN(auto probe, device.NewKvPages(shape, 1));
  const size_t page_bytes = probe->page_bytes();
  const size_t count = budget_bytes / page_bytes;
  if (count == 0 || count > size_t{1} << 30) {
    return absl::InvalidArgumentError(absl::StrCat("a KV budget of ", budget_bytes, " bytes makes ",
                                                   count, " pages of ", page_bytes,
                                                   " bytes; set a sensible one"));
  }
  CCOE_ASSIGN_OR_RETURN(auto pages, device.NewKvPages(shape, static_cast<int>(count)));
  return std::unique_ptr<KvPool>(new KvPool(std::move(pages)));
}

int KvPool::PagesFor(int layers, int positions) {
  return layers * ((positions + compute::kKvPageTokens - 1) / compute::kKvPageTokens);
}

absl::StatusOr<KvBlocks> KvPool::Reserve(int layers, int positions,
                                         absl::Span<const KvColumn> shared) {
  constexpr int32_t kNone = -1;
  const size_t count = PagesFor(layers, positions);
  KvBlocks blocks;
  blocks.pool_ = this;
  blocks.pages_per_layer_ = layers == 0 ? 0 : static_cast<int>(count) / layers;
  blocks.pages_.assign(count, kNone);
  size_t needed = count;
  for (size_t index = 0; index < shared.size(); ++index) {
    for (size_t layer = 0; layer < shared[index].size(); ++layer) {
      Hold(blocks.pages_[layer * blocks.pages_per_layer_ + index] = shared[index][layer]);
      --needed;
    }
  }
  const size_t available = free_.size() + cached();
  while (needed > free_.size() && needed <= available && reclaim_()) {
  }
  if (needed > free_.size()) {
    std::erase(blocks.pages_, kNone);
    return absl::ResourceExhaustedError(
        absl::StrCat("needs ", needed, " KV pages, ", available, " are free"));
  }
  for (int32_t& page : blocks.pages_) {
    if (page != kNone) continue;
    Hold(page = free_.back());
    free_.pop_back();
  }
  return blocks;
}

void KvPool::Keep(int32_t page) {
  CCOE_CHECK(holders_[page] > 0 && !kept_[page]);
  kept_[page] = true;
}

void KvPool::Drop(int32_t page) {
  CCOE_CHECK(kept_[page]);
  kept_[page] = false;
  if (holders_[page] == 0) free_.push_back(page);
}

void KvPool::Hold(int32_t page) {
  if (holders_[page]++ == 0) ++used_;
}

void KvPool::GiveBack(int32_t page) {
  if (--holders_[page] > 0) return;
  --used_;
  if (!kept_[page]) free_.push_back(page);
}

}  // namespace ccoe::runtime
