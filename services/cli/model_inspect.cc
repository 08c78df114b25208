#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "services/cli/command.h"
#include "services/cli/load.h"
#include "services/cli/model_summary.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] = R"(Examples:
  ccoe model inspect SmolLM2-135M-Instruct.Q4_1.gguf
  ccoe model inspect --json qwen2.5-0.5b-instruct/ | jq -r .digest

Exit codes: 0 the model is fit to be served; 4 it was refused.
)";

struct Options {
  std::string path;
  std::string chat_template;
  bool json = false;
};

void PrintText(Terminal& terminal, const Json& model) {
  std::vector<std::string> dtypes;
  for (const auto& [name, tally] : model["dtypes"].items()) {
    dtypes.push_back(absl::StrFormat("%s (%d tensors, %.1f MB)", name, tally["tensors"].get<int>(),
                                     tally["bytes"].get<double>() / 1e6));
  }
  const auto line = [&](absl::string_view label, const std::string& value) {
    terminal.OutUntrusted(absl::StrFormat("  %-14s %s\n", label, value));
  };
  const auto number = [&](const char* field) { return model[field].get<int64_t>(); };
  terminal.OutUntrusted(absl::StrCat(model["name"].get<std::string>(), "\n"));
  line("family", model["family"]);
  line("parameters", absl::StrFormat("%.1f million", number("parameters") / 1e6));
  line("layers", absl::StrCat(number("layers")));
  line("hidden",
       absl::StrFormat("%d (%d heads of %d, %d for keys and values, ffn %d)", number("hidden"),
                       number("heads"), number("head_dim"), number("kv_heads"), number("ffn")));
  line("weights", absl::StrJoin(dtypes, ", "));
  line("context", absl::StrFormat("%d tokens, %.1f KB of keys and values each", number("context"),
                                  number("kv_bytes_per_token") / 1e3));
  line("rope", absl::StrFormat("theta %g, scaling %s", model["rope"]["theta"].get<double>(),
                               model["rope"]["scaling"].get<std::string>()));
  line("tokenizer", absl::StrFormat("%d tokens", model["tokenizer"]["vocab"].get<int64_t>()));
  line("chat template", model["chat_template"]);
  line("digest", model["digest"]);
}

ExitCode RunInspect(Context& context, const Options& options) {
  if (options.json) context.terminal.AnswerInJson();
  auto model = LoadModel(context.terminal, options.path, options.chat_template);
  if (!model.ok()) {
    context.terminal.Fail(model.status());
    return ExitCode::kRefused;
  }
  Json summary;
  {
    Progress progress(context.terminal, "reading the weights");
    summary = SummariseModel(**model);
  }
  if (options.json) {
    context.terminal.OutJson(summary);
  } else {
    PrintText(context.terminal, summary);
  }
  return ExitCode::kOk;
}

}  // namespace

void AddModel(CLI::App& app, Action* action) {
  CLI::App* group = app.add_subcommand("model", "Look at base models");
  group->require_subcommand(1);
  CLI::App* command = group->add_subcommand(
      "inspect", "Show what a model is, and its digest, to which expert packages are pinned");
  auto options = std::make_shared<Options>();
  command->add_option("MODEL", options->path, "GGUF file or Hugging Face folder")
      ->required()
      ->check(CLI::ExistingPath);
  command->add_option("--chat-template", options->chat_template,
                      "Template to use instead of the model's own");
  command->add_flag("--json", options->json, "One line of JSON");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunInspect(context, *options); };
  });
}

}  // namespace ccoe::cli
