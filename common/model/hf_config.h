#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/model/config.h"

namespace ccoe::model {

// The configuration in a Hugging Face config.json, with the end-of-text ids it names. UNIMPLEMENTED
// names what is not supported. `where` begins every message.
absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view text, std::string_view where);

// Adds the end-of-text ids of a generation_config.json.
absl::Status AddGenerationConfig(std::string_view text, std::string_view where,
                                 ModelConfig* config);

}  // namespace ccoe::model
