#include "common/runtime/stall_clock.h"

#include <utility>

namespace ccoe::runtime {

absl::Duration StallClock::Observe(absl::Span<RemoteExpert* const> links,
                                   absl::Span<const int> credit, absl::Time now) {
  std::map<RemoteExpert*, absl::Time> before = std::exchange(since_, {});
  for (size_t i = 0; i < links.size(); ++i) {
    if (credit[i] > 0) continue;
    const auto known = before.find(links[i]);
    since_.emplace(links[i], known == before.end() ? now : known->second);
    if (known != before.end()) before.erase(known);
  }
  absl::Duration ended;
  for (const auto& [link, since] : before) ended += now - since;
  return ended;
}

}  // namespace ccoe::runtime
