#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/config.h"
#include "common/model/expert_package.h"
#include "common/model/tensor_table.h"

namespace ccoe::model {

// The pairs of an adapter by layer and module ("q_proj").
using LoraTable = std::map<std::pair<int, std::string>, LoraPair>;

// What PEFT's adapter_config.json decides here. UNIMPLEMENTED names a variant that is not
// supported.
struct LoraConfig {
  int rank = 0;
  float scale = 1;
};
absl::StatusOr<LoraConfig> ParseLoraConfig(std::string_view json, std::string_view where);

// Pairs up the tensors of PEFT's adapter_model.safetensors. INVALID_ARGUMENT: a name that is no
// adapter of a projection in a layer from `attach_depth` on, a half without the other, or a rank
// other than the config's.
absl::StatusOr<LoraTable> MakeLoraTable(const TensorTable& tensors, const LoraConfig& config,
                                        int attach_depth, std::string_view where);

// FAILED_PRECONDITION unless every pair fits its projection in a model of this shape.
absl::Status CheckLoraShapes(const LoraTable& table, const ModelConfig& config);

}  // namespace ccoe::model
