#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/router/route_decision.h"

// How a request becomes steps. Pure functions.
namespace ccoe::router {

inline constexpr int kMaxPlanSteps = 8;

// The instructions of a text, in order: it is cut before the items of a list, after sentences and
// empty lines, before "then" and its like, and where "and" or a comma stands before the verb of a
// command. Never within a fenced block of code, nor so that a part has fewer than three words. The
// parts together are the text.
std::vector<absl::string_view> SplitInstructions(absl::string_view text);

struct PlannedStep {
  std::string instruction;
  size_t part = 0;  // whose decision it has
};

// Joins neighbouring parts of a text, each with its decision, to steps of different domains. A part
// that no domain claims surely, or that neither commands nor asks, goes with the one before it, or
// after it at the beginning. One step or none: the text is no plan.
std::vector<PlannedStep> JoinSteps(absl::Span<const absl::string_view> parts,
                                   absl::Span<const RouteDecision> decisions);

// The limits, where their sum is at most `total`; otherwise each one's share of it, at least 1.
std::vector<int> ShareTokens(absl::Span<const int> limits, int total);

}  // namespace ccoe::router
