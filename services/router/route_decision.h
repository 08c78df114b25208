#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/runtime/session.h"

namespace ccoe::router {

enum class RouteStage {
  kExplicit,  // the request named its target
  kRules,     // the packages' rules claimed the prompt
  kLearned,   // a package's row of the linear gate did
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
  double confidence = 1;            // in [0, 1]
  std::string runner_up;            // empty for kExplicit
  std::vector<DomainScore> scores;  // of the last stage that was asked, best first
};

// A rule that was found in a text.
struct RuleHit {
  std::string domain;
  std::string rule;  // the keyword or the regular expression
  double weight = 0;
};

// What one stage made of a prompt.
struct StageReport {
  RouteStage stage = RouteStage::kRules;  // or kLearned
  absl::Duration time;                    // the stage's own
  absl::Duration state_time;              // until the prompt's state was there; kLearned
  std::vector<DomainScore> scores;        // best first
  std::vector<RuleHit> hits;              // kRules, by domain
};

}  // namespace ccoe::router
