#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "services/router/router_core.h"

// What a request with a plan, or with several experts, asks of the gate, and what becomes of its
// answers. Pure functions.
namespace ccoe::router {

// A request for each step of a plan, and for each of several experts; of a plan that is to be made:
// for each part of the last user message, which may become a step. None where that has but one
// part, or more than a list of tasks would.
std::vector<ParsedRequest> PartsOf(const ParsedRequest& request);

// The steps of a request whose parts are resolved. No steps where they make no plan.
// INVALID_ARGUMENT for several experts of which two are the same.
absl::StatusOr<Resolved> JoinParts(const ParsedRequest& request, absl::Span<const Resolved> parts);

// The order in which several experts answer: the one that attaches deepest first, so that the
// prompt runs through the backbone once.
std::vector<size_t> AuctionOrder(absl::Span<const ResolvedStep> candidates);

// `status` as the error of a request's part, or step: its metadata names the step that the client
// gave, or which was answered, or the expert.
absl::Status AtPart(const absl::Status& status, const ParsedRequest& request, size_t part);
absl::Status AtStep(const absl::Status& status, size_t step);
absl::Status AtExpert(const absl::Status& status, const runtime::ExpertKey& expert);

}  // namespace ccoe::router
