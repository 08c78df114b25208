#include "services/cli/expert.h"

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/cli/load.h"
#include "services/cli/progress.h"

namespace ccoe::cli {

void NoteCheck(absl::string_view name, const absl::Status& status, ExpertChecks* checks) {
  checks->list.push_back({{"name", name}, {"ok", status.ok()}, {"reason", status.message()}});
  if (checks->reason.empty()) checks->reason = std::string(status.message());
}

ExpertChecks CheckExpert(Terminal& terminal, const std::string& folder, const std::string& model) {
  ExpertChecks checks;
  auto package = model::ExpertPackage::Load(folder);
  NoteCheck("manifest and weights are sound", package.status(), &checks);
  if (package.ok()) checks.package = *std::move(package);
  if (model.empty()) return checks;
  auto base = LoadModel(terminal, model, "");
  NoteCheck("base model is sound", base.status(), &checks);
  if (base.ok()) checks.model = *std::move(base);
  if (checks.package == nullptr || checks.model == nullptr) return checks;
  Progress progress(terminal, "reading the weights");
  NoteCheck("fits the base model", checks.package->CheckAgainst(*checks.model), &checks);
  return checks;
}

void PrintChecks(Terminal& terminal, const nlohmann::ordered_json& checks) {
  for (const auto& check : checks) {
    const bool ok = check["ok"];
    terminal.Out(absl::StrCat(
        "  ", terminal.ForOut(ok ? Style::kGreen : Style::kRed, ok ? "ok      " : "refused "),
        check["name"].get<std::string>(), "\n"));
  }
}

void PrintField(Terminal& terminal, absl::string_view label, absl::string_view value) {
  terminal.OutUntrusted(absl::StrFormat("  %-14s %s\n", label, value));
}

void AddExpert(CLI::App& app, Action* action) {
  CLI::App* group = app.add_subcommand("expert", "Look at expert packages, and make them");
  group->require_subcommand(1);
  AddExpertInspect(*group, action);
  AddExpertVerify(*group, action);
  AddExpertDiff(*group, action);
  AddExpertExtract(*group, action);
  AddExpertPack(*group, action);
}

}  // namespace ccoe::cli
