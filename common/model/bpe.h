#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ccoe::model {

// Byte-pair merging of one piece of text. Immutable, thread-safe.
class BpeMerger {
 public:
  struct Merge {
    int32_t left = 0;
    int32_t right = 0;
    int32_t result = 0;
  };

  // `byte_tokens` holds the token of each single byte, or -1; `merges` are by rank.
  // INVALID_ARGUMENT when two merges join the same pair.
  static absl::StatusOr<BpeMerger> Create(const std::array<int32_t, 256>& byte_tokens,
                                          std::vector<Merge> merges);

  // Appends the tokens of `piece`: its bytes, joined by the merge of the lowest rank, the leftmost
  // first, until none applies. Bytes without a token are left out.
  void Append(std::string_view piece, std::vector<int32_t>* out) const;

 private:
  struct Symbol;
  struct Candidate;
  void PushPair(absl::Span<const Symbol> symbols, int left, std::vector<Candidate>* heap) const;

  std::array<int32_t, 256> byte_tokens_{};
  std::vector<Merge> merges_;
  absl::flat_hash_map<uint64_t, int32_t> rank_of_pair_;
};

}  // namespace ccoe::model
