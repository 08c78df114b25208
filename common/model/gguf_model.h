#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/gguf.h"
#include "common/model/model_parts.h"

namespace ccoe::model {

// Reads a model from a GGUF file. Errors as of Model::Load.
absl::StatusOr<ModelParts> ReadGgufModel(const std::string& path);

// The parts that `file` describes; `where` begins every message. The tensors are views of the
// file's bytes, but for rows of Llama's q and k projections, which are copied into Hugging Face's
// order.
absl::StatusOr<ModelParts> ModelPartsFromGguf(const GgufFile& file, std::string_view where);

}  // namespace ccoe::model
