#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ccoe::runtime {

class BoundaryStore;

// The boundary states of one session: the hidden states at an attach depth, from position 0. Gives
// what was reserved back to its store when it goes; moves, does not copy; must not outlive the
// store.
class BoundaryStates {
 public:
  BoundaryStates() = default;
  BoundaryStates(BoundaryStates&& other) noexcept { *this = std::move(other); }
  BoundaryStates& operator=(BoundaryStates&& other) noexcept;
  ~BoundaryStates() { Release(); }

  // Adds the next rows, [rows, hidden), no more than were reserved.
  void Append(absl::Span<const float> states);
  // Rows [position, position + count), which were appended: [count, hidden).
  absl::Span<const float> Rows(int position, int count) const;
  int rows() const;
  // Forgets all but the first `rows` rows, and keeps the room.
  void Truncate(int rows);
  void Release();
  bool empty() const { return bytes_ == 0; }  // nothing is reserved

 private:
  friend class BoundaryStore;
  BoundaryStore* store_ = nullptr;
  size_t bytes_ = 0;           // reserved
  std::vector<float> states_;  // allocated whole, so that it never moves
};

// A fixed budget of bytes for boundary states; their memory is touched as rows come. Owned by an
// engine and used by its thread alone.
class BoundaryStore {
 public:
  BoundaryStore(int hidden, size_t budget_bytes) : hidden_(hidden), budget_bytes_(budget_bytes) {}

  size_t BytesFor(int rows) const { return sizeof(float) * hidden_ * rows; }
  // Reserves room for `rows` rows; nothing is kept on refusal, which is RESOURCE_EXHAUSTED.
  absl::StatusOr<BoundaryStates> Reserve(int rows);

  size_t budget_bytes() const { return budget_bytes_; }
  size_t used_bytes() const { return used_bytes_; }

 private:
  friend class BoundaryStates;
  const int hidden_;
  const size_t budget_bytes_;
  size_t used_bytes_ = 0;
};

}  // namespace ccoe::runtime
