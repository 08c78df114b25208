#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/model.h"
#include "services/cli/terminal.h"

namespace ccoe::cli {

// Loads a model with its progress on standard error. Errors as of model::Model::Load.
absl::StatusOr<std::shared_ptr<const model::Model>> LoadModel(Terminal& terminal,
                                                              const std::string& path,
                                                              const std::string& chat_template);

}  // namespace ccoe::cli
