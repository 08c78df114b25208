#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/runtime/session.h"
#include "services/router/backbone.h"

namespace ccoe::router {

enum class RouteStage {
  kExplicit,  // the request named its target
  kRules,     // the packages' rules claimed the prompt
  kFallback,  // nobody claimed it: `general`
};

struct DomainScore {
  std::string domain;
  double score = 0;
  double threshold = 1;
};

struct RouteDecision {
  std::string domain;
  runtime::ExpertKey expert;
  RouteStage stage = RouteStage::kFallback;
  double confidence = 1;
  std::string runner_up;            // empty for kExplicit
  std::vector<DomainScore> scores;  // every domain, best first; empty for kExplicit
};

// Finds a prompt's domain. Immutable and thread-safe: a pure function of the text.
class Gate {
 public:
  virtual ~Gate() = default;
  // The decision names a domain; its expert is left empty.
  virtual RouteDecision Decide(std::string_view text) const = 0;
};

// The gate of the packages' rules. A domain's score is the sum of the weights of its keywords
// (whole words, without regard to ASCII case) and patterns that occur in the text, each counted
// once; of a domain with several packages the newest one's rules count. Let q be score / threshold,
// and 1 for `general`. The domain with the highest q wins if that is at least 1 (ties: by name),
// otherwise `general` does. confidence = q / (q + q of the runner-up): 0.5 is a tie, and it grows
// with the winner's score and falls with the runner-up's. Of a text longer than kMaxGateBytes the
// two ends are looked at; the time is linear in its length.
std::unique_ptr<Gate> MakeRulesGate(const Catalog& catalog);

inline constexpr size_t kMaxGateBytes = 64 << 10;

}  // namespace ccoe::router
