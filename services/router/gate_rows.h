#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "services/router/route_decision.h"

namespace ccoe::router {

struct Catalog;

// The gate's second stage: the packages' rows of a linear head over the backbone's pooled state
// (runtime::RoutePool) at the routing layer. A domain's probability is the logistic function of
// weights . state + bias; it claims the prompt when that reaches its threshold. Of those that claim
// it the one whose odds are the most above its threshold's wins (ties: by name), otherwise
// `general` does. confidence: the winner's probability; for `general` one minus that of the domain
// that came nearest. Immutable and thread-safe.
class GateRows {
 public:
  // Rows of another layer than that of the first domain with one, rows of another width and, where
  // an expert attaches above the routing layer, all rows are left out.
  explicit GateRows(const Catalog& catalog);

  // Layers below the pooled state; 0: there are no rows.
  int routing_layer() const { return routing_layer_; }
  // Rows of packages that are left out.
  int unused() const { return unused_; }
  // kLearned or kFallback. `pooled` has the width of a hidden state.
  RouteDecision Decide(absl::Span<const float> pooled) const;

 private:
  struct Row {
    std::string domain;
    std::vector<float> weights;
    double bias = 0;
    double threshold = 0;
  };
  int routing_layer_ = 0;
  int unused_ = 0;
  std::vector<Row> rows_;  // by domain
};

}  // namespace ccoe::router
