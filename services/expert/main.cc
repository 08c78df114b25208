#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/rpc/config_flags.h"
#include "common/rpc/signals.h"
#include "common/telemetry/log.h"
#include "services/expert/expert_node.h"

namespace ccoe::expert {
namespace {

constexpr char kHelp[] =
    "Serves experts: the upper layers of one or more domains, for the backbones that connect.";
constexpr char kExamples[] = R"(Once it serves, one line on standard output tells the addresses:

  listening listen=127.0.0.1:50061 health=127.0.0.1:50062 metrics=127.0.0.1:9465

SIGTERM drains: what runs is finished, what is new is refused, exit code 0.

Examples:
  ccoe-expert --model model.gguf --package experts/sql
  ccoe-expert --model model.gguf --package experts/sql --general --listen 0.0.0.0:50061
  ccoe-expert --model model.gguf --layer-begin 18          (`general` alone, from layer 18)

Exit codes: 0 ended by a signal, 1 failed to start, 2 wrong usage or configuration.)";

using Config = internal::v1::ExpertConfig;

void AddFlags(rpc::ConfigFlags<Config>& flags) {
  flags.Add<std::vector<std::string>>(
      "--package",
      [](Config& c, const std::vector<std::string>& v) {
        c.mutable_packages()->Assign(v.begin(), v.end());
      },
      "Folder of an expert package to serve; may be given many times");
  flags.Add<int>(
      "--layer-begin", [](Config& c, const int& v) { c.set_layer_begin(v); },
      "First layer to own (default: the shallowest attach depth of the packages)");
  flags.AddSwitch(
      "--general", [](Config& c) { c.set_general(true); },
      "Serve `general` too: the base model's own upper layers (without packages: always)");
}

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "ccoe-expert: %s\n", std::string(status.message()).c_str());
  return code;
}

int Run(int argc, char** argv) {
  rpc::ShutdownSignals signals;
  CLI::App app(kHelp, "ccoe-expert");
  app.footer(kExamples);
  app.set_version_flag("--version", CCOE_VERSION);
  rpc::ConfigFlags<Config> flags(app);
  AddFlags(flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Config defaults;
  defaults.mutable_server()->set_listen("127.0.0.1:50061");
  const absl::StatusOr<Config> config = flags.Load(std::move(defaults));
  absl::Status status = config.status();
  if (status.ok()) status = CheckConfig(*config);
  if (status.ok()) status = rpc::ApplyLogConfig(config->server());
  if (!status.ok()) return Fail(2, status);
  if (flags.print()) {
    std::printf("%s", rpc::ConfigToJson(*config).c_str());
    return 0;
  }
  if (flags.check()) {
    std::printf("the configuration is good\n");
    return 0;
  }
  const auto node = ExpertNode::Start(*config);
  if (!node.ok()) return Fail(1, node.status());
  std::printf("%s", (*node)->ReadyLine().c_str());
  std::fflush(stdout);
  signals.Wait();
  telemetry::LogInfo("draining", {});
  const bool finished = (*node)->Drain();
  telemetry::LogInfo("stopped", {{"finished_all", finished}});
  return 0;
}

}  // namespace
}  // namespace ccoe::expert

int main(int argc, char** argv) {
  try {
    return ccoe::expert::Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ccoe-expert: %s\n", error.what());
    return 1;
  }
}
