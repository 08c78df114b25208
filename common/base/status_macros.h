#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function with the status of `expr` unless it is OK.
#define CCOE_RETURN_IF_ERROR(expr)               \
  do {                                           \
    absl::Status ccoe_status_ = (expr);          \
    if (!ccoe_status_.ok()) return ccoe_status_; \
  } while (false)

#define CCOE_CONCAT_INNER_(a, b) a##b
#define CCOE_CONCAT_(a, b) CCOE_CONCAT_INNER_(a, b)

// CCOE_ASSIGN_OR_RETURN(auto x, F()) : declares or assigns x from a StatusOr, or returns its
// status.
#define CCOE_ASSIGN_OR_RETURN(lhs, expr) \
  CCOE_ASSIGN_OR_RETURN_IMPL_(CCOE_CONCAT_(ccoe_statusor_, __LINE__), lhs, expr)
#define CCOE_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  if (!tmp.ok()) return std::move(tmp).status();    \
  lhs = *std::move(tmp)
