#pragma once

#include <memory>
#include <string>

#include "common/model/expert_package.h"
#include "common/model/model.h"
#include "services/cli/command.h"

namespace ccoe::cli {

// The commands of `ccoe expert`; `group` is their parent.
void AddExpertInspect(CLI::App& group, Action* action);
void AddExpertVerify(CLI::App& group, Action* action);
void AddExpertDiff(CLI::App& group, Action* action);
void AddExpertExtract(CLI::App& group, Action* action);
void AddExpertPack(CLI::App& group, Action* action);

// A package, what was checked of it, and as far as they could be read the package and its base.
struct ExpertChecks {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();  // of {"name", "ok", "reason"}
  std::string reason;  // of the first check that failed; empty when none did
  std::shared_ptr<const model::ExpertPackage> package;
  std::shared_ptr<const model::Model> model;
};

// Checks a package, and against a base model unless `model` is empty; with progress on standard
// error.
ExpertChecks CheckExpert(Terminal& terminal, const std::string& folder, const std::string& model);
// Adds one thing that was checked; `status` tells why it is not so.
void NoteCheck(absl::string_view name, const absl::Status& status, ExpertChecks* checks);
void PrintChecks(Terminal& terminal, const nlohmann::ordered_json& checks);

// A line of `ccoe expert`'s and its kind's text: a label and what it is.
void PrintField(Terminal& terminal, absl::string_view label, absl::string_view value);

}  // namespace ccoe::cli
