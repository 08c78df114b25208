#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/config_flags.h"
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

With --http it serves OpenAI's HTTP API as well, and the line has http=127.0.0.1:8080;
docs/http.md tells what it takes.

SIGTERM or Ctrl-C drains: what runs is finished, what is new is refused, exit code 0.
A second one ends it at once.

Examples:
  ccoe serve --model model.gguf --experts experts
  ccoe serve --model model.gguf --experts experts --http 127.0.0.1:8080
  ccoe serve --model model.gguf --listen :50051 --api-keys keys.json --metrics-listen :9464
  ccoe serve --model model.gguf --experts experts --admin-listen 127.0.0.1:50059
  ccoe serve --model model.gguf --print-config > serve.json
  ccoe serve --config serve.json --check-config
)";

using Config = internal::v1::ServeConfig;
using Flags = rpc::ConfigFlags<Config>;

absl::StatusOr<Config> EffectiveConfig(const Flags& flags) {
  Config defaults;
  defaults.mutable_server()->set_listen(kDefaultListen);
  CCOE_ASSIGN_OR_RETURN(Config config, flags.Load(std::move(defaults)));
  CCOE_RETURN_IF_ERROR(CompleteServeConfig(&config));
  return config;
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

absl::StatusOr<std::unique_ptr<Node>> StartNode(Terminal& terminal, const Config& config) {
  Progress progress(terminal, absl::StrCat("loading ", config.engine().model()));
  return Node::Start({config, [&progress](double part) { progress.Set(part); }});
}

ExitCode Serve(Context& context, const Config& config) {
  const absl::Time start = absl::Now();
  auto node = StartNode(context.terminal, config);
  if (!node.ok()) {
    context.terminal.Error(node.status().message());
    return absl::IsUnavailable(node.status()) ? ExitCode::kFailed : ExitCode::kRefused;
  }
  StopSignal stop(context.signals);
  telemetry::LogInfo("serving", {{"listen", (*node)->address()},
                                 telemetry::LogField::IfAny("http", (*node)->http_address()),
                                 {"experts", (*node)->DescribeExperts()},
                                 {"version", CCOE_VERSION},
                                 {"start_ms", absl::Now() - start}});
  context.terminal.Out((*node)->ReadyLine());
  stop.Wait();
  telemetry::LogInfo("draining", {});
  const bool finished = (*node)->Drain();
  telemetry::LogInfo("stopped", {{"finished_all", finished}});
  return ExitCode::kOk;
}

ExitCode RunServe(Context& context, const Flags& flags) {
  std::signal(SIGPIPE, SIG_IGN);
  const auto config = EffectiveConfig(flags);
  absl::Status status = config.status();
  if (status.ok()) status = rpc::ApplyLogConfig(config->server());
  if (!status.ok()) {
    context.terminal.Error(status.message());
    return ExitCode::kUsage;
  }
  if (const auto answer = flags.Answer(*config); answer.has_value()) {
    context.terminal.Out(*answer);
    return ExitCode::kOk;
  }
  return Serve(context, *config);
}

}  // namespace

void AddServe(CLI::App& app, Action* action) {
  CLI::App* command =
      app.add_subcommand("serve", "Serve a model and its experts from this process");
  auto flags = std::make_shared<Flags>(*command);
  flags->Add<std::string>(
      "--experts", [](Config& c, const std::string& v) { c.set_experts(v); },
      "Folder whose subfolders are expert packages (default: `general` alone)");
  command->footer(kExamples);
  command->callback([flags, action] {
    *action = [flags](Context& context) { return RunServe(context, *flags); };
  });
}

}  // namespace ccoe::cli
