#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/expert_writer.h"
#include "common/model/model.h"

namespace ccoe::model {

struct ExtractOptions {
  // A Hugging Face folder: config.json and the safetensors files; no tokenizer is needed.
  std::string checkpoint;
  NewExpert expert;
  Proceed proceed;
};

// Makes a full package of what a fine-tuned checkpoint does not share with `base`: its layers from
// the first one that differs, in their own types, and the final norm and the head where they
// differ. Values count, not the types that hold them. The package is pinned to the prefix, and to
// the whole base where it uses the base's norm or head.
//
// FAILED_PRECONDITION: the base is quantised, the checkpoint has another architecture or shape, is
// equal to the base, or differs in the embedding or the first layer already (the message names the
// first tensor that differs). INVALID_ARGUMENT, UNIMPLEMENTED, NOT_FOUND: as of Model::Load, for
// the checkpoint. Else as of CheckNewExpert and FinishExpert.
absl::StatusOr<WrittenExpert> ExtractExpert(const ExtractOptions& options, const Model& base);

}  // namespace ccoe::model
