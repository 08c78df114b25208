#include "services/router/plan_request.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "services/router/catalog.h"
#include "services/router/plan.h"

namespace ccoe::router {
namespace {

bool IsAutomatic(const ParsedRequest& request) {
  return request.plan.has_value() && request.plan->steps.empty();
}

ParsedRequest PartOf(const ParsedRequest& request, std::string text) {
  ParsedRequest part;
  part.routing.min_confidence = request.routing.min_confidence;
  part.routing.draw = request.routing.draw;
  part.input.gate_text = text;
  part.input.prompt = std::vector<model::Message>{{"user", std::move(text)}};
  return part;
}

ResolvedStep StepOf(const Resolved& part, std::string instruction, int max_tokens) {
  ResolvedStep step;
  step.decision = part.decision;
  step.instruction = std::move(instruction);
  step.max_tokens = max_tokens;
  step.catalog = part.catalog;
  step.active = part.active;
  return step;
}

std::vector<ResolvedStep> AutomaticSteps(const ParsedRequest& request,
                                         absl::Span<const Resolved> parts) {
  std::vector<RouteDecision> decisions;
  for (const Resolved& part : parts) decisions.push_back(part.decision);
  const auto texts = SplitInstructions(*request.input.gate_text);
  std::vector<ResolvedStep> steps;
  for (PlannedStep& step : JoinSteps(texts, decisions)) {
    steps.push_back(StepOf(parts[step.part], std::move(step.instruction), request.stop.max_tokens));
  }
  const bool fits = static_cast<int>(steps.size()) <= request.plan->max_total_tokens;
  return steps.size() > 1 && fits ? steps : std::vector<ResolvedStep>();
}

absl::Status WithMetadata(const absl::Status& status, const std::string& key,
                          const std::string& value) {
  base::ErrorDetails details = base::DetailsOf(status);
  details.metadata.emplace_back(key, value);
  return base::MakeError(base::ReasonOf(status),
                         absl::StrCat(key, " ", value, ": ", status.message()), details);
}

}  // namespace

std::vector<ParsedRequest> PartsOf(const ParsedRequest& request) {
  std::vector<ParsedRequest> parts;
  for (const runtime::ExpertKey& expert : request.experts) {
    parts.emplace_back().target = expert;
    parts.back().routing.draw = request.routing.draw;
  }
  if (IsAutomatic(request)) {
    const auto texts = SplitInstructions(*request.input.gate_text);
    if (texts.size() < 2 || texts.size() > kMaxPlanSteps) return {};
    for (const absl::string_view text : texts) {
      parts.push_back(PartOf(request, std::string(text)));
    }
  } else if (request.plan.has_value()) {
    for (const PlanStep& step : request.plan->steps) {
      parts.push_back(PartOf(request, step.instruction));
      parts.back().target = step.target;
      parts.back().routing = request.routing;
    }
  }
  return parts;
}

absl::StatusOr<Resolved> JoinParts(const ParsedRequest& request, absl::Span<const Resolved> parts) {
  Resolved joined;
  joined.catalog = parts[0].catalog;
  joined.gate = parts[0].gate;
  for (const Resolved& part : parts) joined.route_time += part.route_time;
  std::vector<ResolvedStep>& steps = joined.steps;
  if (IsAutomatic(request)) {
    steps = AutomaticSteps(request, parts);
    if (steps.empty()) return joined;
  } else if (request.plan.has_value()) {
    for (const PlanStep& step : request.plan->steps) {
      steps.push_back(StepOf(parts[steps.size()], step.instruction, step.max_tokens));
    }
  } else {
    for (const Resolved& part : parts) {
      const auto same = [&](const ResolvedStep& step) {
        return step.decision.expert == part.decision.expert;
      };
      if (std::any_of(steps.begin(), steps.end(), same)) {
        return InvalidField("experts", absl::StrCat(" has '", part.decision.expert.name, "' ",
                                                    part.decision.expert.version, " twice"));
      }
      steps.push_back(StepOf(part, "", request.stop.max_tokens));
    }
  }
  if (request.plan.has_value()) {
    std::vector<int> limits;
    for (const ResolvedStep& step : steps) limits.push_back(step.max_tokens);
    limits = runtime::ShareTokens(limits, request.plan->max_total_tokens);
    for (size_t i = 0; i < steps.size(); ++i) steps[i].max_tokens = limits[i];
  }
  joined.decision = steps[0].decision;
  return joined;
}

std::vector<size_t> AuctionOrder(absl::Span<const ResolvedStep> candidates) {
  const auto depth = [&](size_t i) {
    const runtime::ExpertKey& key = candidates[i].decision.expert;
    if (key.name == runtime::kGeneralExpert) return std::numeric_limits<int>::max();
    const absl::StatusOr<const CatalogEntry*> entry = FindExpert(*candidates[i].catalog, key);
    return entry.ok() ? (*entry)->info.attach_depth : 0;
  };
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return depth(a) > depth(b); });
  return order;
}

absl::Status AtPart(const absl::Status& status, const ParsedRequest& request, size_t part) {
  if (!request.experts.empty()) return AtExpert(status, request.experts[part]);
  return IsAutomatic(request) ? status : AtStep(status, part);
}

absl::Status AtStep(const absl::Status& status, size_t step) {
  return WithMetadata(status, "step", absl::StrCat(step));
}

absl::Status AtExpert(const absl::Status& status, const runtime::ExpertKey& expert) {
  return WithMetadata(status, "expert", expert.name);
}

}  // namespace ccoe::router
