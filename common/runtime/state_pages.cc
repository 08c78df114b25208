#include "common/runtime/state_pages.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace ccoe::runtime {

using compute::kKvPageTokens;

void StatePages::Take(int position, absl::Span<const float> rows) {
  while (!rows.empty()) {
    const size_t index = position / kKvPageTokens;
    const int row = position % kKvPageTokens;
    const size_t count = std::min(rows.size(), static_cast<size_t>(kKvPageTokens - row) * hidden_);
    if (pages_.size() <= index) pages_.resize(index + 1);
    std::vector<float>& page = pages_[index];
    const size_t begin = static_cast<size_t>(row) * hidden_;
    if (begin <= page.size() && page.size() < begin + count) {
      if (page.empty()) page.reserve(static_cast<size_t>(kKvPageTokens) * hidden_);
      page.insert(page.end(), rows.begin() + (page.size() - begin), rows.begin() + count);
    }
    rows.remove_prefix(count);
    position += static_cast<int>(count / hidden_);
  }
}

void StatePages::Truncate(int rows) {
  const size_t whole = rows / kKvPageTokens;
  const size_t rest = static_cast<size_t>(rows % kKvPageTokens) * hidden_;
  if (pages_.size() <= whole) return;
  pages_.resize(whole + 1);
  if (pages_[whole].size() > rest) pages_[whole].resize(rest);
}

StatePage StatePages::Extract(int index) {
  if (static_cast<size_t>(index) >= pages_.size() ||
      pages_[index].size() != static_cast<size_t>(kKvPageTokens) * hidden_) {
    return nullptr;
  }
  return std::make_shared<const std::vector<float>>(std::exchange(pages_[index], {}));
}

}  // namespace ccoe::runtime
