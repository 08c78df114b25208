#include <algorithm>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/cli/command.h"
#include "services/router/api_keys.h"

// The keys file of a server: who may ask it, and for how much.
namespace ccoe::cli {
namespace {

using internal::v1::ApiKey;
using internal::v1::ApiKeys;

constexpr char kExamples[] =
    R"(The file holds the keys' SHA-256, never a key. A running server takes
changes within a second or two; requests of a removed key that are under way go on.

Examples:
  ccoe keys add keys.json --name team-a > team-a.key
  ccoe keys add keys.json --name batch --max-concurrent 4 --tokens-per-minute 60000
  ccoe keys list keys.json
  ccoe keys remove keys.json --name batch
  ccoe serve --model model.gguf --api-keys keys.json
  ccoe generate --server localhost:50051 --api-key-file team-a.key "Hello"
)";

struct Options {
  std::string file;
  std::string name;
  int weight = 1;
  int max_concurrent_requests = 0;
  int tokens_per_minute = 0;
  std::string cache_group;
  bool json = false;
};

ExitCode Fail(Context& context, const absl::Status& status) {
  context.terminal.Fail(status);
  return ExitCode::kFailed;
}

ExitCode RunAdd(Context& context, const Options& options) {
  absl::StatusOr<ApiKeys> keys = router::LoadApiKeys(options.file);
  if (absl::IsNotFound(keys.status())) keys = ApiKeys();  // the first key makes the file
  if (!keys.ok()) return Fail(context, keys.status());
  const std::string secret = router::MakeApiKey();
  ApiKey& key = *keys->add_keys();
  key.set_name(options.name);
  key.set_sha256(router::HashApiKey(secret));
  key.set_weight(options.weight);
  key.set_max_concurrent_requests(options.max_concurrent_requests);
  key.set_tokens_per_minute(options.tokens_per_minute);
  key.set_cache_group(options.cache_group);
  const absl::Status saved = router::SaveApiKeys(*keys, options.file);
  if (!saved.ok()) return Fail(context, saved);
  if (context.terminal.err_is_terminal()) {
    context.terminal.Err("This is the only time that the key is shown:\n");
  }
  context.terminal.Out(secret + "\n");
  return ExitCode::kOk;
}

std::string LimitText(int limit) { return limit == 0 ? "-" : absl::StrCat(limit); }

ExitCode RunList(Context& context, const Options& options) {
  if (options.json) context.terminal.AnswerInJson();
  const absl::StatusOr<ApiKeys> keys = router::LoadApiKeys(options.file);
  if (!keys.ok()) return Fail(context, keys.status());
  constexpr char kRow[] = "%-24s %6s %10s %14s  %s\n";
  if (!options.json) {
    context.terminal.Out(context.terminal.ForOut(
        Style::kBold,
        absl::StrFormat(kRow, "NAME", "WEIGHT", "CONCURRENT", "TOKENS/MIN", "CACHE")));
  }
  for (const ApiKey& key : keys->keys()) {
    const int weight = key.has_weight() ? key.weight() : 1;
    if (options.json) {
      context.terminal.OutJson({{"name", key.name()},
                                {"weight", weight},
                                {"max_concurrent_requests", key.max_concurrent_requests()},
                                {"tokens_per_minute", key.tokens_per_minute()},
                                {"cache_group", key.cache_group()}});
    } else {
      context.terminal.Out(absl::StrFormat(kRow, key.name(), absl::StrCat(weight),
                                           LimitText(key.max_concurrent_requests()),
                                           LimitText(key.tokens_per_minute()),
                                           key.cache_group().empty() ? "own" : key.cache_group()));
    }
  }
  return ExitCode::kOk;
}

ExitCode RunRemove(Context& context, const Options& options) {
  absl::StatusOr<ApiKeys> keys = router::LoadApiKeys(options.file);
  if (!keys.ok()) return Fail(context, keys.status());
  auto& list = *keys->mutable_keys();
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const ApiKey& key) { return key.name() == options.name; });
  if (found == list.end()) {
    return Fail(context, absl::NotFoundError(
                             absl::StrCat(options.file, " has no key named ", options.name)));
  }
  list.erase(found);
  const absl::Status saved = router::SaveApiKeys(*keys, options.file);
  return saved.ok() ? ExitCode::kOk : Fail(context, saved);
}

// A subcommand that does `run` to a keys file.
CLI::App* AddTo(CLI::App* keys, const std::string& name, const std::string& help,
                const std::shared_ptr<Options>& options, Action* action,
                ExitCode (*run)(Context&, const Options&)) {
  CLI::App* command = keys->add_subcommand(name, help);
  command->add_option("FILE", options->file, "The keys file")->required();
  command->footer(kExamples);
  command->callback([options, action, run] {
    *action = [options, run](Context& context) { return run(context, *options); };
  });
  return command;
}

}  // namespace

void AddKeys(CLI::App& app, Action* action) {
  CLI::App* keys = app.add_subcommand("keys", "Make and remove the keys that clients show");
  keys->require_subcommand(1);
  keys->footer(kExamples);
  const auto options = std::make_shared<Options>();
  CLI::App* add = AddTo(keys, "add", "Make a key, and print it: the file has its hash alone",
                        options, action, RunAdd);
  add->add_option("--name", options->name, "For logs and metrics")->required();
  add->add_option("--weight", options->weight,
                  "Its part beside the other keys' where the server is busy (default 1)");
  add->add_option("--max-concurrent", options->max_concurrent_requests,
                  "Requests at a time (default 0: no limit)");
  add->add_option("--tokens-per-minute", options->tokens_per_minute,
                  "Tokens of prompts and answers (default 0: no limit)");
  add->add_option("--cache-group", options->cache_group,
                  "Share the prefix cache with the keys of this group (default: with none)");
  CLI::App* list = AddTo(keys, "list", "List the keys by their names", options, action, RunList);
  list->add_flag("--json", options->json, "JSON lines on standard output");
  CLI::App* remove = AddTo(keys, "remove", "Remove a key", options, action, RunRemove);
  remove->add_option("--name", options->name, "Of the key")->required();
}

}  // namespace ccoe::cli
