#pragma once

#include <optional>
#include <string_view>

#include "absl/types/span.h"
#include "services/router/gate_rows.h"
#include "services/router/gate_rules.h"
#include "services/router/route_decision.h"

namespace ccoe::router {

// Finds a prompt's domain in stages, cheapest first: the packages' rules over its text, then their
// rows over its pooled state, then `general`. Immutable and thread-safe; both stages are pure
// functions. The decisions name a domain; its expert is left empty.
class Gate {
 public:
  explicit Gate(const Catalog& catalog) : rules_(catalog), rows_(catalog) {}

  const GateRules& rules() const { return rules_; }
  const GateRows& rows() const { return rows_; }

 private:
  const GateRules rules_;
  const GateRows rows_;
};

}  // namespace ccoe::router
