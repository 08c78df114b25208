#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/expert_manifest.h"
#include "common/model/model.h"
#include "common/model/staged_folder.h"

namespace ccoe::model {

// What people call a new expert, and where it is made.
struct NewExpert {
  std::string name;
  std::string version;
  std::string domain;
  std::string description;
  std::string licence;
  std::string out;  // the package's folder, which is made
};

// The part that is done, in [0, 1]; false ends the work with CANCELLED.
using Proceed = std::function<bool(double)>;

struct WrittenExpert {
  int attach_depth = 0;
  size_t tensors = 0;
  size_t weight_bytes = 0;
  std::string digest;  // of the package
  ExpertBase base;
};

// What can be said of a new expert before the work: INVALID_ARGUMENT names what expert.json cannot
// hold; else as of CheckNewFolder.
absl::Status CheckNewExpert(const NewExpert& expert);

// Adds expert.json to a folder that holds the rest of a package, with gate rules that claim nothing
// (threshold 1), checks the package as the loader does and against its base, and publishes it.
// Errors as of ExpertPackage::Load, ExpertPackage::CheckAgainst and StagedFolder.
absl::StatusOr<WrittenExpert> FinishExpert(const NewExpert& expert, ExpertKind kind,
                                           int attach_depth, const ExpertBase& base,
                                           std::string_view weights, const Model& model,
                                           StagedFolder& folder);

struct PackOptions {
  std::string adapter;  // PEFT's adapter_config.json and adapter_model.safetensors
  NewExpert expert;
  Proceed proceed;
};

// Makes a LoRA package of an adapter, which it copies: it attaches at the lowest layer that the
// adapter touches, and is pinned to `model`. Besides the errors of FinishExpert and CheckNewExpert,
// those of ParseLoraConfig and MakeLoraTable (lora_adapter.h); an adapter that touches layer 0 is
// refused with INVALID_ARGUMENT.
absl::StatusOr<WrittenExpert> PackAdapter(const PackOptions& options, const Model& model);

}  // namespace ccoe::model
