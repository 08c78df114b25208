#include "common/model/expert_diff.h"

#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "services/cli/expert.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShown = 10;  // of a list, in text

constexpr char kExamples[] =
    R"(The distance of two tensors is the Frobenius norm of their difference over the larger
norm of the two: 0 where they are equal, at most 2.

Examples:
  ccoe expert diff experts/sql-1.0 experts/sql-1.1
  ccoe expert diff old new --json | jq '.tensors.distances[:3]'

Exit codes: 0 the packages are the same; 1 they differ; 2 a folder is not there; 4 a package
was refused.
)";

struct Options {
  std::string a;
  std::string b;
  bool json = false;
};

Json SummarySide(const model::ExpertPackage& package) {
  return {{"folder", package.folder()},
          {"name", package.manifest().name},
          {"version", package.manifest().version},
          {"digest", package.digest()}};
}

Json EntriesJson(const std::vector<std::string>& entries) {
  Json array = Json::array();
  for (const std::string& entry : entries) {
    array.push_back(Json::parse(entry, nullptr, /*allow_exceptions=*/false));
  }
  return array;
}

Json DiffJson(const model::ExpertDiff& diff) {
  const auto value = [](const std::string& json) { return Json::parse(json, nullptr, false); };
  Json fields = Json::array(), lists = Json::array();
  for (const auto& change : diff.fields) {
    fields.push_back({{"field", change.field}, {"a", value(change.a)}, {"b", value(change.b)}});
  }
  for (const auto& change : diff.lists) {
    lists.push_back({{"list", change.list},
                     {"only_in_a", EntriesJson(change.only_in_a)},
                     {"only_in_b", EntriesJson(change.only_in_b)}});
  }
  Json changes = Json::array(), distances = Json::array();
  for (const auto& change : diff.tensor_changes) {
    changes.push_back({{"name", change.name}, {"a", change.a}, {"b", change.b}});
  }
  for (const auto& tensor : diff.distances) {
    distances.push_back({{"name", tensor.name}, {"distance", tensor.distance}});
  }
  return {{"same", diff.Same()},
          {"fields", fields},
          {"lists", lists},
          {"tensors",
           {{"only_in_a", diff.tensors_only_in_a},
            {"only_in_b", diff.tensors_only_in_b},
            {"changes", changes},
            {"distances", distances}}}};
}

class TextWriter {
 public:
  explicit TextWriter(Terminal& terminal) : terminal_(terminal) {}

  void Line(absl::string_view text) { terminal_.Out(absl::StrCat(Safe(text), "\n")); }
  void OnlyIn(const std::vector<std::string>& in_a, const std::vector<std::string>& in_b) {
    List(in_a, Style::kRed, "- ");
    List(in_b, Style::kGreen, "+ ");
  }
  // The first of a list, each after `mark`.
  void List(const std::vector<std::string>& entries, Style style, absl::string_view mark) {
    for (size_t i = 0; i < entries.size() && i < kShown; ++i) {
      terminal_.Out(absl::StrCat(
          "    ", terminal_.ForOut(style, absl::StrCat(mark, Safe(entries[i]))), "\n"));
    }
    if (entries.size() > kShown) {
      Line(absl::StrFormat("    %sand %d more (--json has all)", mark, entries.size() - kShown));
    }
  }

 private:
  std::string Safe(absl::string_view text) const {
    return terminal_.out_is_terminal() ? Printable(text) : std::string(text);
  }

  Terminal& terminal_;
};

std::string DescribeSide(const model::ExpertPackage& package, absl::string_view mark) {
  return absl::StrCat(mark, " ", package.manifest().name, " ", package.manifest().version, "  ",
                      package.folder());
}

void PrintDistances(const model::ExpertDiff& diff, TextWriter* out) {
  size_t differing = 0;
  for (const auto& tensor : diff.distances) differing += tensor.distance == 0 ? 0 : 1;
  if (differing == 0) return;
  out->Line(absl::StrFormat("  %d of %d common tensors differ; relative distance, largest first:",
                            differing, diff.distances.size()));
  for (size_t i = 0; i < differing && i < kShown; ++i) {
    out->Line(
        absl::StrFormat("    %-11.4g %s", diff.distances[i].distance, diff.distances[i].name));
  }
  if (differing > kShown) {
    out->Line(absl::StrFormat("    and %d more (--json has all)", differing - kShown));
  }
}

void PrintDiff(Terminal& terminal, const model::ExpertPackage& a, const model::ExpertPackage& b,
               const model::ExpertDiff& diff) {
  TextWriter out(terminal);
  out.Line(DescribeSide(a, "-"));
  out.Line(DescribeSide(b, "+"));
  if (diff.Same()) {
    out.Line(a.digest() == b.digest() ? "the same, byte for byte"
                                      : "the same, but for how the files are written");
    return;
  }
  for (const auto& change : diff.fields) {
    out.Line(absl::StrCat("  ", change.field));
    out.OnlyIn({change.a}, {change.b});
  }
  for (const auto& change : diff.lists) {
    out.Line(absl::StrCat("  ", change.list));
    out.OnlyIn(change.only_in_a, change.only_in_b);
  }
  if (!diff.tensors_only_in_a.empty() || !diff.tensors_only_in_b.empty()) {
    out.Line(absl::StrFormat("  tensors that only one has: %d and %d",
                             diff.tensors_only_in_a.size(), diff.tensors_only_in_b.size()));
    out.OnlyIn(diff.tensors_only_in_a, diff.tensors_only_in_b);
  }
  std::vector<std::string> changes;
  for (const auto& change : diff.tensor_changes) {
    changes.push_back(absl::StrCat(change.name, "  ", change.a, " -> ", change.b));
  }
  if (!changes.empty()) {
    out.Line(absl::StrFormat("  %d tensors have another shape or type", changes.size()));
    out.List(changes, Style::kPlain, "");
  }
  PrintDistances(diff, &out);
}

struct Compared {
  std::shared_ptr<const model::ExpertPackage> a;
  std::shared_ptr<const model::ExpertPackage> b;
  model::ExpertDiff diff;
};

absl::StatusOr<Compared> Compare(Terminal& terminal, const Options& options) {
  Progress progress(terminal, "reading the weights");
  Compared compared;
  CCOE_ASSIGN_OR_RETURN(compared.a, model::ExpertPackage::Load(options.a));
  CCOE_ASSIGN_OR_RETURN(compared.b, model::ExpertPackage::Load(options.b));
  compared.diff = model::DiffExperts(*compared.a, *compared.b,
                                     [&progress](double part) { progress.Set(part); });
  return compared;
}

ExitCode RunDiff(Context& context, const Options& options) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  const auto compared = Compare(terminal, options);
  if (!compared.ok()) {
    terminal.Fail(compared.status());
    return ExitCode::kRefused;
  }
  if (options.json) {
    Json json = {{"a", SummarySide(*compared->a)}, {"b", SummarySide(*compared->b)}};
    json.update(DiffJson(compared->diff));
    terminal.OutJson(json);
  } else {
    PrintDiff(terminal, *compared->a, *compared->b, compared->diff);
  }
  return compared->diff.Same() ? ExitCode::kOk : ExitCode::kFailed;
}

}  // namespace

void AddExpertDiff(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand("diff", "Tell what differs between two expert packages");
  auto options = std::make_shared<Options>();
  command->add_option("A", options->a, "Folder with an expert.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("B", options->b, "Folder with the other expert.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_flag("--json", options->json, "One line of JSON, with every tensor's distance");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunDiff(context, *options); };
  });
}

}  // namespace ccoe::cli
