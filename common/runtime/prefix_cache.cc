#include "common/runtime/prefix_cache.h"

#include <algorithm>
#include <utility>

namespace ccoe::runtime {

namespace {

// Calls `use` for each page of an entry.
template <typename Use>
void ForEachPage(const PrefixEntry& entry, const Use& use) {
  for (int32_t page : entry.trunk) use(page);
  for (const auto& [digest, column] : entry.tails) {
    for (int32_t page : column) use(page);
  }
}

size_t BytesOf(const PrefixEntry& entry) {
  size_t bytes = 0;
  for (const auto& [depth, states] : entry.states) bytes += states->size() * sizeof(float);
  return bytes;
}

}  // namespace

PrefixCache::PrefixCache(KvPool& pool, size_t state_budget_bytes)
    : pool_(pool), state_budget_bytes_(state_budget_bytes) {
  pool_.set_reclaim([this] { return EvictOne(); });
}

PrefixCache::~PrefixCache() {
  while (!uses_.empty()) Remove(uses_.back());
}

PrefixCache::PageTokens PrefixCache::PageOf(absl::Span<const int32_t> tokens, size_t index) {
  PageTokens page;
  const auto from = tokens.subspan(index * page.size(), page.size());
  std::copy(from.begin(), from.end(), page.begin());
  return page;
}

std::vector<std::shared_ptr<const PrefixEntry>> PrefixCache::Find(
    std::string_view salt, absl::Span<const int32_t> tokens) {
  std::vector<std::shared_ptr<const PrefixEntry>> entries;
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return entries;
  Node* node = &root->second;
  while ((entries.size() + 1) * compute::kKvPageTokens <= tokens.size()) {
    const auto child = node->children.find(PageOf(tokens, entries.size()));
    if (child == node->children.end()) break;
    node = child->second.get();
    entries.push_back(node->entry);
  }
  Touch(node);
  return entries;
}

void PrefixCache::Insert(std::string_view salt, absl::Span<const int32_t> tokens,
                         std::vector<PrefixEntry> entries) {
  if (entries.empty()) return;
  Node* node = &roots_.try_emplace(std::string(salt)).first->second;
  for (size_t index = 0; index < entries.size(); ++index) {
    const PageTokens page = PageOf(tokens, index);
    std::unique_ptr<Node>& child = node->children[page];
    if (child == nullptr) {
      child = std::make_unique<Node>();
      child->parent = node;
      child->tokens = page;
      child->entry = std::make_shared<PrefixEntry>();
      child->use = uses_.insert(uses_.begin(), child.get());
    }
    node = child.get();
    Merge(std::move(entries[index]), *node->entry);
  }
  Touch(node);
  while (state_bytes_ > state_budget_bytes_) Remove(uses_.back());
}

void PrefixCache::DropTails(const std::string& digest) {
  for (Node* node : uses_) {
    const auto tail = node->entry->tails.extract(digest);
    if (tail.empty()) continue;
    for (int32_t page : tail.mapped()) pool_.Drop(page);
  }
}

bool PrefixCache::EvictOne() {
  const auto found = std::find_if(uses_.rbegin(), uses_.rend(), [this](const Node* node) {
    return node->children.empty() && HasUnusedPage(*node->entry);
  });
  if (found == uses_.rend() && pool_.cached() == 0) return false;
  Remove(found == uses_.rend() ? uses_.back() : *found);
  return true;
}

bool PrefixCache::HasUnusedPage(const PrefixEntry& entry) const {
  bool unused = false;
  ForEachPage(entry, [&](int32_t page) { unused = unused || !pool_.IsUsed(page); });
  return unused;
}

void PrefixCache::Remove(Node* node) {
  uses_.erase(node->use);
  ForEachPage(*node->entry, [this](int32_t page) { pool_.Drop(page); });
  state_bytes_ -= BytesOf(*node->entry);
  Node* parent = node->parent;
  parent->children.erase(PageTokens(node->tokens));  // and with it the node
  if (parent->parent == nullptr && parent->children.empty()) {
    std::erase_if(roots_, [&](const auto& root) { return &root.second == parent; });
  }
}

void PrefixCache::Touch(Node* node) {
  for (; node->parent != nullptr; node = node->parent) {
    uses_.splice(uses_.begin(), uses_, node->use);
  }
}

void PrefixCache::Merge(PrefixEntry from, PrefixEntry& into) {
  for (size_t layer = into.trunk.size(); layer < from.trunk.size(); ++layer) {
    pool_.Keep(from.trunk[layer]);
    into.trunk.push_back(from.trunk[layer]);
  }
  for (auto& [digest, column] : from.tails) {
    const auto [tail, added] = into.tails.try_emplace(digest, std::move(column));
    if (!added) continue;
    for (int32_t page : tail->second) pool_.Keep(page);
  }
  state_bytes_ -= BytesOf(into);
  into.states.merge(from.states);
  state_bytes_ += BytesOf(into);
}

}  // namespace ccoe::runtime
