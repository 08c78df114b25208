#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/session.pb.h"
#include "common/model/model.h"
#include "common/runtime/session.h"

namespace ccoe::backbone {

// What a router asks for, tokenized and checked; undecided: Decide names the expert.
// INVALID_ARGUMENT names what is wrong; a prompt that leaves no room for an answer is
// PROMPT_TOO_LONG with both counts. `max_context` is the most positions of a session.
absl::StatusOr<runtime::SessionSpec> MakeSessionSpec(const internal::v1::OpenSession& open,
                                                     const model::Model& model, int max_context,
                                                     absl::Time now);

}  // namespace ccoe::backbone
