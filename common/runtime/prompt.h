#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/chat_template.h"
#include "common/model/model.h"

namespace ccoe::runtime {

// What a client sent: a conversation (the model's chat template is applied), plain text, or ids.
using PromptInput = std::variant<std::vector<model::Message>, std::string, std::vector<int32_t>>;

// The token ids of a prompt. INVALID_ARGUMENT for an empty prompt, an unknown role, or an id
// outside the vocabulary. Control tokens spelled out in text stay text.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const model::Model& model,
                                                  const PromptInput& input);

}  // namespace ccoe::runtime
