#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "services/router/route_decision.h"

namespace ccoe::router {

struct Catalog;

inline constexpr size_t kMaxGateBytes = 64 << 10;

// The gate's first stage: the packages' rules. A domain's score is the sum of the weights of its
// keywords (whole words, without regard to ASCII case) and patterns that occur in the text, each
// counted once. Let q be score / threshold, and 1 for `general`. The domain with the highest q wins
// if that is at least 1 (ties: by name), otherwise `general` does. confidence = q / (q + q of the
// runner-up): 0.5 is a tie, and it grows with the winner's score and falls with the runner-up's. Of
// a text longer than kMaxGateBytes the two ends are looked at; the time is linear in its length.
// Most patterns cost next to nothing: a text that lacks what they require is not searched.
// Immutable and thread-safe.
class GateRules {
 public:
  explicit GateRules(const Catalog& catalog);
  ~GateRules();

  // kRules or kFallback. `hits`, where not null, gets the rules that were found.
  RouteDecision Decide(std::string_view text, std::vector<RuleHit>* hits = nullptr) const;

 private:
  class Impl;
  const std::unique_ptr<const Impl> impl_;
};

}  // namespace ccoe::router
