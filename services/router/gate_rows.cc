#include "services/router/gate_rows.h"

#include <algorithm>
#include <cmath>
#include <utility>

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
  // Log odds above those of the threshold.
  std::vector<std::pair<double, DomainScore>> margins;
  for (const Row& row : rows_) {
    double logit = row.bias;
    for (size_t i = 0; i < row.weights.size(); ++i) logit += double{row.weights[i]} * pooled[i];
    const double margin = logit - std::log(row.threshold / (1 - row.threshold));
    margins.push_back({margin, {row.domain, 1 / (1 + std::exp(-logit)), row.threshold}});
  }
  std::stable_sort(margins.begin(), margins.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  const auto claims = [&](size_t i) { return i < margins.size() && margins[i].first >= 0; };
  RouteDecision decision;
  for (auto& [margin, score] : margins) decision.scores.push_back(std::move(score));
  const double best = decision.scores.empty() ? 0 : decision.scores[0].score;
  decision.stage = claims(0) ? RouteStage::kLearned : RouteStage::kFallback;
  decision.domain = claims(0) ? decision.scores[0].domain : std::string(runtime::kGeneralExpert);
  decision.confidence = claims(0) ? best : 1 - best;
  if (claims(1)) {
    decision.runner_up = decision.scores[1].domain;
  } else if (claims(0)) {
    decision.runner_up = runtime::kGeneralExpert;
  } else if (!decision.scores.empty()) {
    decision.runner_up = decision.scores[0].domain;
  }
  return decision;
}

}  // namespace ccoe::router
