#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// What another package does to the prompts that a domain's packages have as examples.
struct GateConfusion {
  std::string domain;
  int prompts = 0;  // that could be decided; one that occurs twice counts once
  int moved = 0;    // of them, those that the gate sends elsewhere than before
  int own = 0;      // of them, those that it sends to their own domain with the package
};

// A prompt's pooled state after so many layers; nullopt where it cannot be had.
using StateOf =
    std::function<std::optional<std::vector<float>>(const std::string& prompt, int routing_layer)>;

// Decides the examples of the packages that `catalog`'s gate goes by, and those of `added`, by the
// gate without and with `added`, by domain. Asks for the states of those that the rules leave open;
// one whose state cannot be had does not count. A pure function but for `state`.
std::vector<GateConfusion> CompareGates(const Catalog& catalog, const CatalogEntry& added,
                                        const StateOf& state);

// States of prompts as a conversation's only message, computed by `backbone` until `deadline`. A
// call waits for its state; not for gRPC's callbacks. `backbone` outlives the function.
StateOf StatesFrom(Backbone& backbone, absl::Time deadline);

}  // namespace ccoe::router
