#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/model/expert_extract.h"
#include "common/model/expert_writer.h"
#include "services/cli/expert.h"
#include "services/cli/load.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExitCodes[] = R"(
Exit codes: 0 the package is made; 1 it could not be written; 2 wrong usage, or the folder is
there already; 4 the model, the checkpoint or the adapter was refused; 130 interrupted. Unless
it is 0, nothing was made.
)";

constexpr char kExtractExamples[] =
    R"(Finds the layers that a fine-tuned checkpoint shares with its base model, value by value, and
makes an expert package of the rest. Freeze the embedding and the lower layers when you
fine-tune: what they are is what the experts share. The base has to be in a float format.

Examples:
  ccoe expert extract tuned/ --model base/ --name law --domain law --out experts/law
  ccoe expert extract tuned/ --model base/ --name law --domain law --version 1.1.0 \
    --licence Apache-2.0 --out experts/law-1.1
  ccoe generate --model base/ --experts experts --domain law "What is a tort?"
)";

constexpr char kPackExamples[] =
    R"(Makes an expert package of a LoRA adapter as PEFT saves it (adapter_config.json and
adapter_model.safetensors). It attaches at the lowest layer that the adapter touches: train
with layers_to_transform, from layer 1 at the lowest.

Examples:
  ccoe expert pack adapter/ --model model.gguf --name law --domain law --out experts/law
  ccoe generate --model model.gguf --experts experts --domain law "What is a tort?"
)";

constexpr char kNote[] =
    "its gate rules are empty, so only requests that name it reach it: add keywords or patterns to "
    "gate.rules in its expert.json (docs/expert-packages.md)";

struct Options {
  std::string source;  // the checkpoint or the adapter
  std::string model;
  model::NewExpert expert;
  bool json = false;
};

using Make = std::function<absl::StatusOr<model::WrittenExpert>(const Options&, const model::Model&,
                                                                const model::Proceed&)>;

absl::StatusOr<model::WrittenExpert> Extract(const Options& options, const model::Model& model,
                                             const model::Proceed& proceed) {
  return model::ExtractExpert({options.source, options.expert, proceed}, model);
}

absl::StatusOr<model::WrittenExpert> Pack(const Options& options, const model::Model& model,
                                          const model::Proceed& proceed) {
  return model::PackAdapter({options.source, options.expert, proceed}, model);
}

// What is wrong with the input is refused; the rest is the fault of this machine.
ExitCode ExitCodeOfMaking(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kNotFound:
      return ExitCode::kRefused;
    case absl::StatusCode::kAlreadyExists:
      return ExitCode::kUsage;
    case absl::StatusCode::kCancelled:
      return ExitCode::kInterrupted;
    default:
      return ExitCode::kFailed;
  }
}

Json Summarise(const Options& options, const model::WrittenExpert& written, int layers) {
  return {{"folder", options.expert.out},
          {"name", options.expert.name},
          {"version", options.expert.version},
          {"domain", options.expert.domain},
          {"attach_depth", written.attach_depth},
          {"layers", layers},
          {"tensors", written.tensors},
          {"weight_bytes", written.weight_bytes},
          {"base",
           {{"name", written.base.name},
            {"digest", written.base.digest},
            {"prefix_digest", written.base.prefix_digest}}},
          {"digest", written.digest},
          {"notes", {kNote}}};
}

void PrintMade(Terminal& terminal, const Options& options, const model::WrittenExpert& written,
               int layers) {
  const auto line = [&](absl::string_view label, absl::string_view value) {
    PrintField(terminal, label, value);
  };
  terminal.OutUntrusted(absl::StrCat(options.expert.name, " ", options.expert.version, " in ",
                                     options.expert.out, "\n"));
  line("domain", options.expert.domain);
  line("attach depth", absl::StrFormat("%d of %d layers", written.attach_depth, layers));
  line("weights", absl::StrFormat("%d tensors, %.1f MB", written.tensors,
                                  static_cast<double>(written.weight_bytes) / 1e6));
  line("base", written.base.name);
  line("pinned to", written.base.digest.empty()
                        ? absl::StrCat(written.base.prefix_digest, " (its lower layers alone)")
                        : written.base.digest);
  line("digest", written.digest);
  line("note", kNote);
}

absl::StatusOr<model::WrittenExpert> MakeInterruptibly(Context& context, const Options& options,
                                                       const model::Model& model,
                                                       const Make& make) {
  std::atomic<bool> interrupted = false;
  const Signals::Scope scope(context.signals, [&](int) { interrupted = true; });
  Progress progress(context.terminal, absl::StrCat("making ", options.expert.out));
  return make(options, model, [&](double part) {
    progress.Set(part);
    return !interrupted;
  });
}

ExitCode RunMake(Context& context, const Options& options, const Make& make) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  if (const absl::Status status = model::CheckNewExpert(options.expert); !status.ok()) {
    terminal.Fail(status);
    return ExitCode::kUsage;
  }
  const auto base = LoadModel(terminal, options.model, "");
  if (!base.ok()) {
    terminal.Fail(base.status());
    return ExitCode::kRefused;
  }
  const auto written = MakeInterruptibly(context, options, **base, make);
  if (!written.ok()) {
    const bool interrupted = absl::IsCancelled(written.status());  // who interrupts needs no words
    terminal.Fail(written.status(), interrupted ? "" : written.status().message());
    return ExitCodeOfMaking(written.status());
  }
  const int layers = (*base)->config().layers;
  if (options.json) {
    terminal.OutJson(Summarise(options, *written, layers));
  } else {
    PrintMade(terminal, options, *written, layers);
  }
  return ExitCode::kOk;
}

void AddMake(CLI::App* command, const char* source, const char* source_help, const Make& make,
             Action* action) {
  auto options = std::make_shared<Options>();
  model::NewExpert& expert = options->expert;
  expert.version = "1.0.0";
  command->add_option(source, options->source, source_help)
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--model", options->model, "Base model: GGUF file or Hugging Face folder")
      ->required()
      ->check(CLI::ExistingPath);
  command->add_option("--name", expert.name, "Name of the expert, in lower case")->required();
  command->add_option("--domain", expert.domain, "Domain that it serves")->required();
  command->add_option("--version", expert.version, "Its version (default 1.0.0)");
  command->add_option("--description", expert.description, "What it does, for people");
  command->add_option("--licence", expert.licence, "Licence of its weights");
  command->add_option("--out", expert.out, "Folder of the package, which is made")->required();
  command->add_flag("--json", options->json, "One line of JSON");
  command->callback([options, make, action] {
    *action = [options, make](Context& context) { return RunMake(context, *options, make); };
  });
}

}  // namespace

void AddExpertExtract(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand(
      "extract", "Make an expert package of what a fine-tuned checkpoint changed");
  AddMake(command, "CHECKPOINT", "Hugging Face folder of the fine-tuned model", Extract, action);
  command->footer(std::string(kExtractExamples) + kExitCodes);
}

void AddExpertPack(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand("pack", "Make an expert package of a LoRA adapter");
  AddMake(command, "ADAPTER", "Folder with PEFT's adapter_config.json", Pack, action);
  command->footer(std::string(kPackExamples) + kExitCodes);
}

}  // namespace ccoe::cli
