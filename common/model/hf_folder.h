#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/model_parts.h"

namespace ccoe::model {

// Reads a model from a Hugging Face folder: config.json, tokenizer.json, model.safetensors or the
// shards of model.safetensors.index.json, and if they are there generation_config.json,
// tokenizer_config.json and chat_template.jinja. Errors as of Model::Load.
absl::StatusOr<ModelParts> ReadHfFolder(const std::string& folder);

// As ReadHfFolder, without tokenizer, chat template and generation_config.json: the configuration's
// own part and the tensors.
absl::StatusOr<ModelParts> ReadHfWeights(const std::string& folder);

// Whether `name` is a plain file name: letters, digits, '.', '_' and '-', not beginning with a '.'.
bool IsPlainFileName(std::string_view name);

}  // namespace ccoe::model
