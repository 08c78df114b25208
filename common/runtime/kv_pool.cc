#include "common/runtime/kv_pool.h"

#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
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
  if (pool_ != nullptr) pool_->free_.insert(pool_->free_.end(), pages_.begin(), pages_.end());
  pool_ = nullptr;
  pages_.clear();
}

void KvBlocks::Truncate(int layers) {
  const size_t kept = static_cast<size_t>(layers) * pages_per_layer_;
  if (pool_ == nullptr || kept >= pages_.size()) return;
  pool_->free_.insert(pool_->free_.end(), pages_.begin() + kept, pages_.end());
  pages_.resize(kept);
}

KvPool::KvPool(std::unique_ptr<compute::KvPages> pages)
    : pages_(std::move(pages)), free_(pages_->page_count()) {
  // Taken from the back: low pages first, so that a small load touches little memory.
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

absl::StatusOr<KvBlocks> KvPool::Reserve(int layers, int positions) {
  const size_t count = PagesFor(layers, positions);
  if (count > free_.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("needs ", count, " KV pages, ", free_.size(), " are free"));
  }
  KvBlocks blocks;
  blocks.pool_ = this;
  blocks.pages_per_layer_ = layers == 0 ? 0 : static_cast<int>(count) / layers;
  blocks.pages_.assign(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - count);
  return blocks;
}

}  // namespace ccoe::runtime
