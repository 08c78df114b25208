#include "common/model/bpe.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

// A token of the piece so far, in a list that merging shortens.
struct BpeMerger::Symbol {
  int32_t id = 0;  // -1: merged into its left neighbour
  int previous = -1;
  int next = -1;
};

// A merge that applied to the symbol at `left` and its right neighbour when it was pushed.
struct BpeMerger::Candidate {
  int32_t rank = 0;
  int left = 0;
  // For a heap with the lowest rank, then the leftmost pair, on top.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

absl::StatusOr<BpeMerger> BpeMerger::Create(const std::array<int32_t, 256>& byte_tokens,
                                            std::vector<Merge> merges) {
  BpeMerger merger;
  merger.byte_tokens_ = byte_tokens;
  merger.merges_ = std::move(merges);
  merger.rank_of_pair_.reserve(merger.merges_.size());
  for (size_t rank = 0; rank < merger.merges_.size(); ++rank) {
    const Merge& merge = merger.merges_[rank];
    if (!merger.rank_of_pair_.emplace(PairKey(merge.left, merge.right), static_cast<int32_t>(rank))
             .second) {
      return absl::InvalidArgumentError(
          Cat("merge ", rank, " joins a pair that an earlier one joins"));
    }
  }
  return merger;
}

void BpeMerger::PushPair(absl::Span<const Symbol> symbols, int left,
                         std::vector<Candidate>* heap) const {
  if (left < 0 || symbols[left].next < 0) return;
  const auto found = rank_of_pair_.find(PairKey(symbols[left].id, symbols[symbols[left].next].id));
  if (found == rank_of_pair_.end()) return;
  heap->push_back({found->second, left});
  std::push_heap(heap->begin(), heap->end());
}

void BpeMerger::Append(std::string_view piece, std::vector<int32_t>* out) const {
  thread_local std::vector<Symbol> symbols;
  thread_local std::vector<Candidate> heap;
  symbols.clear();
  heap.clear();
  for (const char byte : piece) {
    const int32_t id = byte_tokens_[static_cast<uint8_t>(byte)];
    if (id < 0) continue;
    const int index = static_cast<int>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({id, index - 1, -1});
  }
  if (symbols.empty()) return;
  for (int i = 0; i + 1 < static_cast<int>(symbols.size()); ++i) PushPair(symbols, i, &heap);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    const Merge& merge = merges_[top.rank];
    Symbol& left = symbols[top.left];
    if (left.id != merge.left || left.next < 0 || symbols[left.next].id != merge.right) continue;
    Symbol& right = symbols[left.next];
    left.id = merge.result;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = top.left;
    PushPair(symbols, left.previous, &heap);
    PushPair(symbols, top.left, &heap);
  }
  for (int i = 0; i >= 0; i = symbols[i].next) out->push_back(symbols[i].id);
}

}  // namespace ccoe::model
