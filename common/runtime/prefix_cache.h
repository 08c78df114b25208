#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "common/compute/device.h"
#include "common/runtime/kv_pool.h"

namespace ccoe::runtime {

// Hidden states of kKvPageTokens rows after some layer: [kKvPageTokens, hidden]. Shared, as an
// entry is, for whoever has found it may use it after it was forgotten.
using StatePage = std::shared_ptr<const std::vector<float>>;

// What is known of kKvPageTokens tokens that stand after certain others.
struct PrefixEntry {
  KvColumn trunk;                         // layers [0, trunk.size()), of the base model alone
  std::map<std::string, KvColumn> tails;  // an expert's own layers, by the digest of its package
  std::map<int, StatePage> states;        // after so many layers, of the base model alone
};

// KV pages and states of sessions that have ended, by the token ids that they were computed of: a
// tree of whole pages of tokens under each salt. What is shared is found by comparing tokens, never
// by a hash. What was used least recently goes first, the end of a prefix before its beginning.
// Keeps pages of `pool`, which it must not outlive, and drops them when the pool wants them. Owned
// by an engine and used by its thread alone.
class PrefixCache {
 public:
  // `state_budget_bytes`: of the states that are kept.
  PrefixCache(KvPool& pool, size_t state_budget_bytes);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Entries for the longest known prefix of `tokens`, page by page. Their columns are there until
  // the pool reserves the next pages, or for who holds them.
  std::vector<std::shared_ptr<const PrefixEntry>> Find(std::string_view salt,
                                                       absl::Span<const int32_t> tokens);
  // Adds what the entries have and the cache has not. `entries`: of the first pages of `tokens`;
  // their columns are held by a session, which writes them no more.
  void Insert(std::string_view salt, absl::Span<const int32_t> tokens,
              std::vector<PrefixEntry> entries);
  // Forgets the layers of an expert.
  void DropTails(const std::string& digest);
  // Forgets the entry that was used least recently, of those at an end that have a page which no
  // session uses, if there is one. False when no page is kept that no session uses.
  bool EvictOne();

 private:
  using PageTokens = std::array<int32_t, compute::kKvPageTokens>;
  struct Node {
    Node* parent = nullptr;  // null: a salt's root, which has no entry
    PageTokens tokens = {};
    std::map<PageTokens, std::unique_ptr<Node>> children;
    std::shared_ptr<PrefixEntry> entry;
    std::list<Node*>::iterator use;
  };

  static PageTokens PageOf(absl::Span<const int32_t> tokens, size_t index);
  // Moves a node, and then each on the way to it, to the front: so the last of uses_ never has
  // children.
  void Touch(Node* node);
  void Merge(PrefixEntry from, PrefixEntry& into);
  bool HasUnusedPage(const PrefixEntry& entry) const;
  // A node without children.
  void Remove(Node* node);

  KvPool& pool_;
  const size_t state_budget_bytes_;
  size_t state_bytes_ = 0;
  std::map<std::string, Node, std::less<>> roots_;  // by salt
  std::list<Node*> uses_;                           // the most recent first
};

}  // namespace ccoe::runtime
