#include "common/runtime/fair_queue.h"

#include <algorithm>
#include <limits>

namespace ccoe::runtime {
namespace {

constexpr int kAlpha = 4;  // of the dynamic threshold

absl::string_view View(const std::string& text) { return {text.data(), text.size()}; }

// Of the entries that have sessions, what the least served of them had; infinite without any.
template <typename Entries>
double LeastServed(const Entries& entries) {
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [name, entry] : entries) {
    if (entry.sessions > 0) least = std::min(least, entry.served);
  }
  return least;
}

// An entry gets a session; `turn` is what the last had been served whose turn it was.
template <typename Entries>
auto& Enter(Entries& entries, absl::string_view name, double turn) {
  const double least = LeastServed(entries);
  auto& entry = entries.try_emplace(std::string(name)).first->second;
  const bool others = least < std::numeric_limits<double>::infinity();
  if (entry.sessions++ == 0 && others) entry.served = std::max(entry.served, least);
  entry.served = std::max(entry.served, turn);
  return entry;
}

// An entry loses a session. Those that would be lifted when they come back need not be kept.
template <typename Entries>
void Exit(Entries& entries, absl::string_view name) {
  --entries.find(name)->second.sessions;
  const double least = LeastServed(entries);
  std::erase_if(entries, [&](const auto& item) {
    return item.second.sessions == 0 && item.second.served <= least;
  });
}

}  // namespace

bool MayTakePlace(const Flow& flow, int held, int free) {
  if (flow.key.empty()) return free > 0;
  return held < int64_t{kAlpha} * flow.weight * free;
}

void FairQueue::Join(const Flow& flow, absl::string_view domain) {
  Key& key = Enter(keys_, View(flow.key), turn_);
  Enter(key.domains, domain, key.turn);
}

void FairQueue::Turn(const Flow& flow, absl::string_view domain) {
  Key& key = keys_.find(View(flow.key))->second;
  turn_ = std::max(turn_, key.served);
  key.turn = std::max(key.turn, key.domains.find(domain)->second.served);
}

void FairQueue::Leave(const Flow& flow, absl::string_view domain) {
  Exit(keys_.find(View(flow.key))->second.domains, domain);
  Exit(keys_, View(flow.key));
}

void FairQueue::Charge(const Flow& flow, absl::string_view domain, int rows) {
  Key& key = keys_.find(View(flow.key))->second;
  key.served += static_cast<double>(rows) / flow.weight;
  key.domains.find(domain)->second.served += rows;
}

FairQueue::Rank FairQueue::RankOf(const Flow& flow, absl::string_view domain) const {
  const Key& key = keys_.find(View(flow.key))->second;
  return {key.served, key.domains.find(domain)->second.served};
}

}  // namespace ccoe::runtime
