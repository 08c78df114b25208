#include "common/runtime/boundary_states.h"

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace ccoe::runtime {

BoundaryStates& BoundaryStates::operator=(BoundaryStates&& other) noexcept {
  if (this != &other) {
    Release();
    store_ = std::exchange(other.store_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    states_ = std::exchange(other.states_, {});
  }
  return *this;
}

void BoundaryStates::Append(absl::Span<const float> states) {
  CCOE_CHECK(sizeof(float) * (states_.size() + states.size()) <= bytes_);
  states_.insert(states_.end(), states.begin(), states.end());
}

absl::Span<const float> BoundaryStates::Rows(int position, int count) const {
  const size_t hidden = store_->hidden_;
  CCOE_CHECK(hidden * (position + count) <= states_.size());
  return absl::MakeConstSpan(states_).subspan(hidden * position, hidden * count);
}

int BoundaryStates::rows() const {
  return store_ == nullptr ? 0 : static_cast<int>(states_.size() / store_->hidden_);
}

void BoundaryStates::Truncate(int rows) {
  if (rows < this->rows()) states_.resize(static_cast<size_t>(store_->hidden_) * rows);
}

void BoundaryStates::Release() {
  if (store_ != nullptr) store_->used_bytes_ -= bytes_;
  store_ = nullptr;
  bytes_ = 0;
  states_ = {};
}

absl::StatusOr<BoundaryStates> BoundaryStore::Reserve(int rows) {
  const size_t bytes = BytesFor(rows);
  if (bytes > budget_bytes_ - used_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "needs ", bytes, " bytes for boundary states, ", budget_bytes_ - used_bytes_, " are free"));
  }
  BoundaryStates states;
  states.store_ = this;
  states.bytes_ = bytes;
  states.states_.reserve(bytes / sizeof(float));
  used_bytes_ += bytes;
  return states;
}

}  // namespace ccoe::runtime
