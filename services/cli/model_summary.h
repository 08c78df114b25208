#pragma once

#include "common/model/model.h"
#include "nlohmann/json.hpp"

namespace ccoe::cli {

// What `ccoe model inspect --json` prints. Reads all weights for the digest.
nlohmann::ordered_json SummariseModel(const model::Model& model);

}  // namespace ccoe::cli
