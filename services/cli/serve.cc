#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/rpc/config.h"
#include "common/telemetry/log.h"
#include "services/cli/command.h"
#include "services/cli/node.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

constexpr char kDefaultListen[] = "127.0.0.1:50051";

constexpr char kExamples[] =
    R"(One engine computes every layer and every expert: the simplest way to serve. Once it
serves, one line on standard output tells the addresses:

  listening listen=127.0.0.1:50051 health=127.0.0.1:50052 metrics=127.0.0.1:9464

SIGTERM or Ctrl-C drains: what runs is finished, what is new is refused, exit code 0.
A second one ends it at once.

Examples:
  ccoe serve --model model.gguf --experts experts
  ccoe serve --model model.gguf --listen 0.0.0.0:50051 --metrics-listen :9464 --log-json
  ccoe serve --model model.gguf --print-config > serve.json
  ccoe serve --config serve.json --check-config)";

struct Options {
  std::string config_file;
  // What the flags say, in their order.
  std::vector<std::function<void(internal::v1::ServeConfig&)>> overrides;
  bool check_config = false;
  bool print_config = false;
};

// The file's values, then the flags', then the defaults.
absl::StatusOr<internal::v1::ServeConfig> EffectiveConfig(const Options& options) {
  internal::v1::ServeConfig config;
  config.mutable_server()->set_listen(kDefaultListen);
  if (!options.config_file.empty()) {
    const absl::Status status = rpc::LoadConfigFile(options.config_file, &config);
    if (!status.ok()) return status;
  }
  for (const auto& override : options.overrides) override(config);
  const absl::Status status = CompleteServeConfig(&config);
  if (!status.ok()) return status;
  return config;
}

std::string ReadyLine(const Node& node) {
  std::string line = absl::StrCat("listening listen=", node.address());
  if (!node.health_address().empty()) absl::StrAppend(&line, " health=", node.health_address());
  if (!node.metrics_address().empty()) absl::StrAppend(&line, " metrics=", node.metrics_address());
  return line + "\n";
}

// Waits for a signal; the next one ends the process at once.
class StopSignal {
 public:
  explicit StopSignal(Signals& signals)
      : scope_(signals, [this](int signal) {
          base::MutexLock lock(&mutex_);
          if (stopped_) _exit(128 + signal);
          stopped_ = true;
          changed_.SignalAll();
        }) {}

  void Wait() {
    base::MutexLock lock(&mutex_);
    while (!stopped_) changed_.Wait(&mutex_);
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  Signals::Scope scope_;
};

absl::StatusOr<std::unique_ptr<Node>> StartNode(Terminal& terminal,
                                                const internal::v1::ServeConfig& config) {
  Progress progress(terminal, absl::StrCat("loading ", config.engine().model()));
  return Node::Start({config, [&progress](double part) { progress.Set(part); }});
}

ExitCode Serve(Context& context, const internal::v1::ServeConfig& config) {
  const absl::Time start = absl::Now();
  auto node = StartNode(context.terminal, config);
  if (!node.ok()) {
    context.terminal.Error(node.status().message());
    return absl::IsUnavailable(node.status()) ? ExitCode::kFailed : ExitCode::kRefused;
  }
  StopSignal stop(context.signals);
  telemetry::LogInfo("serving", {{"listen", (*node)->address()},
                                 {"experts", (*node)->DescribeExperts()},
                                 {"version", CCOE_VERSION},
                                 {"start_ms", absl::Now() - start}});
  context.terminal.Out(ReadyLine(**node));
  stop.Wait();
  telemetry::LogInfo("draining", {});
  const bool finished = (*node)->Drain();
  telemetry::LogInfo("stopped", {{"finished_all", finished}});
  return ExitCode::kOk;
}

ExitCode RunServe(Context& context, const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);
  const auto config = EffectiveConfig(options);
  absl::Status status = config.status();
  if (status.ok()) status = rpc::ApplyLogConfig(config->server());
  if (!status.ok()) {
    context.terminal.Error(status.message());
    return ExitCode::kUsage;
  }
  if (options.print_config) {
    context.terminal.Out(rpc::ConfigToJson(*config));
    return ExitCode::kOk;
  }
  if (options.check_config) {
    context.terminal.Out("the configuration is good\n");
    return ExitCode::kOk;
  }
  return Serve(context, *config);
}

// A flag whose value `set` puts into the configuration.
template <typename T>
void AddField(CLI::App* command, Options* options, const std::string& flag,
              void (*set)(internal::v1::ServeConfig&, const T&), const std::string& help) {
  command->add_option_function<T>(
      flag,
      [options, set](const T& value) {
        options->overrides.push_back(
            [set, value](internal::v1::ServeConfig& config) { set(config, value); });
      },
      help);
}

void AddServerFields(CLI::App* command, Options* options) {
  using Config = internal::v1::ServeConfig;
  using Text = std::string;
  AddField<Text>(
      command, options, "--listen",
      [](Config& c, const Text& v) { c.mutable_server()->set_listen(v); },
      "Address of the API, HOST:PORT; port 0 takes a free one (default 127.0.0.1:50051)");
  AddField<Text>(
      command, options, "--health-listen",
      [](Config& c, const Text& v) { c.mutable_server()->set_health_listen(v); },
      "Address for grpc.health.v1 alone (default: none; the API's port has it too)");
  AddField<Text>(
      command, options, "--metrics-listen",
      [](Config& c, const Text& v) { c.mutable_server()->set_metrics_listen(v); },
      "Address of the Prometheus endpoint, /metrics (default: none)");
  AddField<Text>(
      command, options, "--log-level",
      [](Config& c, const Text& v) { c.mutable_server()->set_log_level(v); },
      "debug, info (default), warning or error");
  command->add_flag_callback(
      "--log-json",
      [options] {
        options->overrides.push_back([](Config& c) { c.mutable_server()->set_log_json(true); });
      },
      "Log lines as JSON");
}

void AddEngineFields(CLI::App* command, Options* options) {
  using Config = internal::v1::ServeConfig;
  using Text = std::string;
  AddField<Text>(
      command, options, "--model",
      [](Config& c, const Text& v) { c.mutable_engine()->set_model(v); },
      "GGUF file or Hugging Face folder");
  AddField<Text>(
      command, options, "--experts", [](Config& c, const Text& v) { c.set_experts(v); },
      "Folder whose subfolders are expert packages (default: `general` alone)");
  AddField<Text>(
      command, options, "--chat-template",
      [](Config& c, const Text& v) { c.mutable_engine()->set_chat_template(v); },
      "Chat template instead of the model's own, by name");
  AddField<Text>(
      command, options, "--arithmetic",
      [](Config& c, const Text& v) { c.mutable_engine()->set_arithmetic(v); },
      "exact, or i8b32.v1 (default), which is fast");
  AddField<int>(
      command, options, "--threads",
      [](Config& c, const int& v) { c.mutable_engine()->set_threads(v); },
      "Compute threads (default 0: one per core)");
  AddField<int>(
      command, options, "--kv-cache-mib",
      [](Config& c, const int& v) { c.mutable_engine()->set_kv_cache_mib(v); },
      "Memory for keys and values, in MiB (default 1024)");
}

}  // namespace

void AddServe(CLI::App& app, Action* action) {
  CLI::App* command =
      app.add_subcommand("serve", "Serve a model and its experts from this process");
  auto options = std::make_shared<Options>();
  command->add_option(
      "--config", options->config_file,
      "Configuration as JSON (proto/ccoe/internal/v1/config.proto); flags override");
  AddEngineFields(command, options.get());
  AddServerFields(command, options.get());
  command->add_flag("--check-config", options->check_config, "Check the configuration and end");
  command->add_flag("--print-config", options->print_config,
                    "Print the configuration in effect as JSON and end");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunServe(context, *options); };
  });
}

}  // namespace ccoe::cli
