#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/model/expert_package.h"
#include "services/cli/expert.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] = R"(Examples:
  ccoe expert inspect deploy/experts/sql
  ccoe expert inspect deploy/experts/sql --model model.gguf   # may it be attached to this model?
  ccoe expert inspect --json deploy/experts/sql | jq .checks

Exit codes: 0 the package is sound (and fits the model); 4 it was refused.
)";

struct Options {
  std::string folder;
  std::string model;
  bool json = false;
};

Json SummariseGate(const model::ExpertManifest& manifest) {
  Json keywords = Json::array();
  for (const auto& keyword : manifest.rules.keywords) {
    keywords.push_back({{"text", keyword.text}, {"weight", keyword.weight}});
  }
  Json patterns = Json::array();
  for (const auto& pattern : manifest.rules.patterns) {
    patterns.push_back({{"regex", pattern.regex}, {"weight", pattern.weight}});
  }
  Json row = nullptr;
  if (manifest.row) {
    row = {{"routing_layer", manifest.row->routing_layer}, {"threshold", manifest.row->threshold}};
  }
  return {{"threshold", manifest.rules.threshold},
          {"keywords", keywords},
          {"patterns", patterns},
          {"row", row}};
}

Json SummarisePackage(const model::ExpertPackage& package) {
  const model::ExpertManifest& manifest = package.manifest();
  Json sources = Json::array();
  for (const auto& source : manifest.sources) {
    sources.push_back({{"name", source.name}, {"licence", source.licence}});
  }
  return {{"folder", package.folder()},
          {"name", manifest.name},
          {"version", manifest.version},
          {"domain", manifest.domain},
          {"description", manifest.description},
          {"kind", manifest.kind == model::ExpertKind::kLora ? "lora" : "full"},
          {"attach_depth", manifest.attach_depth},
          {"base",
           {{"name", manifest.base.name},
            {"digest", manifest.base.digest},
            {"prefix_digest", manifest.base.prefix_digest}}},
          {"digest", package.digest()},
          {"weights", manifest.weights},
          {"weight_bytes", package.weight_bytes()},
          {"gate", SummariseGate(manifest)},
          {"examples", manifest.examples.size()},
          {"licence", manifest.licence},
          {"sources", sources},
          {"scores", Json::parse(manifest.scores_json, nullptr, false)}};
}

void PrintPackage(Terminal& terminal, const Json& package) {
  const auto line = [&](absl::string_view label, const std::string& value) {
    PrintField(terminal, label, value);
  };
  const Json& gate = package["gate"];
  terminal.OutUntrusted(absl::StrCat(package["name"].get<std::string>(), " ",
                                     package["version"].get<std::string>(), "\n"));
  line("domain", package["domain"]);
  line("description", package["description"]);
  line("kind", absl::StrFormat("%s from layer %d, %.1f MB", package["kind"].get<std::string>(),
                               package["attach_depth"].get<int>(),
                               package["weight_bytes"].get<double>() / 1e6));
  line("base", package["base"]["name"]);
  line("pinned to", package["base"]["digest"].get<std::string>().empty()
                        ? package["base"]["prefix_digest"]
                        : package["base"]["digest"]);
  line("gate", absl::StrFormat("%d keywords, %d patterns, threshold %g%s", gate["keywords"].size(),
                               gate["patterns"].size(), gate["threshold"].get<double>(),
                               gate["row"].is_null() ? "" : ", a learned row"));
  line("examples", absl::StrCat(package["examples"].get<int>()));
  line("licence", package["licence"]);
  for (const Json& source : package["sources"]) {
    line("trained on", absl::StrCat(source["name"].get<std::string>(), " (",
                                    source["licence"].get<std::string>(), ")"));
  }
  line("scores", package["scores"].dump());
  line("digest", package["digest"]);
}

ExitCode RunInspect(Context& context, const Options& options) {
  const ExpertChecks checks = CheckExpert(context.terminal, options.folder, options.model);
  const std::string& reason = checks.reason;
  Json summary = checks.package == nullptr ? Json{{"folder", options.folder}}
                                           : SummarisePackage(*checks.package);
  if (options.json) {
    summary["checks"] = checks.list;
    summary["ok"] = reason.empty();
    summary["reason"] = reason;
    context.terminal.OutJson(summary);
  } else {
    if (checks.package != nullptr) PrintPackage(context.terminal, summary);
    PrintChecks(context.terminal, checks.list);
  }
  if (reason.empty()) return ExitCode::kOk;
  context.terminal.Error(reason);
  return ExitCode::kRefused;
}

}  // namespace

void AddExpertInspect(CLI::App& group, Action* action) {
  CLI::App* command =
      group.add_subcommand("inspect", "Show an expert package, check it, say why it is refused");
  auto options = std::make_shared<Options>();
  command->add_option("DIR", options->folder, "Folder with the package's expert.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--model", options->model, "Base model to check the package against")
      ->check(CLI::ExistingPath);
  command->add_flag("--json", options->json, "One line of JSON");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunInspect(context, *options); };
  });
}

}  // namespace ccoe::cli
