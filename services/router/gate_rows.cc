#include "services/router/gate_rows.h"

#include <algorithm>
#include <cmath>

#include "services/router/catalog.h"

namespace ccoe::router {
namespace {

// How many layers every expert leaves to the backbone. The base model's own upper layers in the
// backbone's process attach nowhere: depth 0.
int SharedLayers(const Catalog& catalog) {
  int layers = catalog.model.backbone_layers;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.attach_depth > 0) layers = std::min(layers, entry.info.attach_depth);
  }
  return layers;
}

}  // namespace

GateRows::GateRows(const Catalog& catalog) {
  const int shared = SharedLayers(catalog);
  for (const CatalogEntry* entry : DomainPackages(catalog)) {
    const std::optional<model::GateRow>& row = entry->manifest->row;
    if (!row.has_value()) continue;
    const bool usable = row->routing_layer >= 1 && row->routing_layer <= shared &&
                        static_cast<int>(row->weights.size()) == catalog.model.hidden &&
                        (rows_.empty() || row->routing_layer == routing_layer_);
    if (!usable) {
      ++unused_;
      continue;
    }
    routing_layer_ = row->routing_layer;
    rows_.push_back({entry->info.domain, row->weights, row->bias, row->threshold});
  }
}

RouteDecision GateRows::Decide(absl::Span<const float> pooled) const {
  RouteDecision decision;
  for (const Row& row : rows_) {
    double logit = row.bias;
    for (size_t i = 0; i < row.weights.size(); ++i) logit += double{row.weights[i]} * pooled[i];
    decision.scores.push_back({row.domain, 1 / (1 + std::exp(-logit)), row.threshold});
  }
  const auto ratio = [](const DomainScore& score) { return score.score / score.threshold; };
  std::stable_sort(decision.scores.begin(), decision.scores.end(),
                   [&](const auto& a, const auto& b) { return ratio(a) > ratio(b); });
  const std::vector<DomainScore>& scores = decision.scores;
  const bool claimed = !scores.empty() && ratio(scores[0]) >= 1;
  decision.stage = claimed ? RouteStage::kLearned : RouteStage::kFallback;
  decision.domain = claimed ? scores[0].domain : std::string(runtime::kGeneralExpert);
  const double best = scores.empty() ? 0 : scores[0].score;
  decision.confidence = claimed ? best : 1 - best;
  if (!claimed) {
    if (!scores.empty()) decision.runner_up = scores[0].domain;
  } else {
    const bool rival = scores.size() > 1 && ratio(scores[1]) >= 1;
    decision.runner_up = rival ? scores[1].domain : std::string(runtime::kGeneralExpert);
  }
  return decision;
}

}  // namespace ccoe::router
