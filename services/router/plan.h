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
// command. Never within a fenced block of code, quotes or brackets, nor so that a part has fewer
// than three words. The parts together are the text; more than kMaxPlanSteps: the last is what is
// left. A text longer than the gate looks at is one part. Linear in its length.
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

}  // namespace ccoe::router
