#include "common/runtime/route_pool.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ccoe::runtime {

RoutePool::RoutePool(std::vector<model::TokenRange> tokens, int hidden, float epsilon)
    : tokens_(std::move(tokens)), epsilon_(epsilon), sum_(hidden, 0.0f) {}

bool RoutePool::Add(int position, absl::Span<const float> states) {
  const size_t hidden = sum_.size();
  const int end = position + static_cast<int>(states.size() / hidden);
  for (const model::TokenRange& range : tokens_) {
    for (int row = std::max(range.begin, position); row < std::min(range.end, end); ++row) {
      const float* state = states.data() + hidden * (row - position);
      float squares = 0;
      for (size_t i = 0; i < hidden; ++i) squares += state[i] * state[i];
      const float scale = 1.0f / std::sqrt(squares / static_cast<float>(hidden) + epsilon_);
      for (size_t i = 0; i < hidden; ++i) sum_[i] += state[i] * scale;
      ++count_;
    }
  }
  return position < tokens_.back().end && end >= tokens_.back().end;
}

std::vector<float> RoutePool::Mean() const {
  std::vector<float> mean(sum_);
  for (float& value : mean) value /= static_cast<float>(count_);
  return mean;
}

}  // namespace ccoe::runtime
