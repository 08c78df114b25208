#include "common/telemetry/key_families.h"

#include <algorithm>

namespace ccoe::telemetry {

KeyFamilies::KeyFamilies(prometheus::Registry& registry)
    : active_(GaugeFamily(registry, MetricId::kKeyActiveRequests)),
      tokens_(CounterFamily(registry, MetricId::kKeyTokens)) {}

void KeyFamilies::List(absl::Span<const KeyUse> keys) {
  for (const KeyUse& use : keys) {
    const auto [entry, added] = keys_.try_emplace(use.key);
    Key& key = entry->second;
    if (added) key = {&active_.Add({{"key", use.key}}), &tokens_.Add({{"key", use.key}})};
    key.active->Set(use.active_requests);
    key.tokens->Increment(std::max(0.0, static_cast<double>(use.tokens) - key.tokens->Value()));
  }
  std::erase_if(keys_, [&](const auto& known) {
    const bool listed = std::any_of(keys.begin(), keys.end(),
                                    [&](const KeyUse& use) { return use.key == known.first; });
    if (listed) return false;
    active_.Remove(known.second.active);
    tokens_.Remove(known.second.tokens);
    return true;
  });
}

}  // namespace ccoe::telemetry
