#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/rpc/config_flags.h"
#include "common/rpc/signals.h"
#include "common/telemetry/log.h"
#include "services/backbone/backbone_node.h"

namespace ccoe::backbone {
namespace {

constexpr char kHelp[] =
    "Serves a backbone: the lower layers of the base model, for routers; experts answer behind it.";
constexpr char kExamples[] = R"(Once it serves, one line on standard output tells the addresses:

  listening listen=127.0.0.1:50056 health=127.0.0.1:50057 metrics=127.0.0.1:9466

Experts may start before or after it: lost links are tried again. SIGTERM drains: what runs is
finished, what is new is refused, exit code 0.

Examples:
  ccoe-backbone --model model.gguf --peer 127.0.0.1:50061 --peer 127.0.0.1:50062
  ccoe-backbone --model model.gguf --layers 18 --peer 127.0.0.1:50061

With all layers (the default) `general` is computed here; with --layers an expert process has to
serve it (ccoe-expert --general).

Exit codes: 0 ended by a signal, 1 failed to start, 2 wrong usage or configuration.)";

using Config = internal::v1::BackboneConfig;

void AddFlags(rpc::ConfigFlags<Config>& flags) {
  flags.Add<std::vector<std::string>>(
      "--peer,--expert",
      [](Config& c, const std::vector<std::string>& v) {
        c.clear_peers();
        for (const std::string& address : v) c.add_peers()->set_address(address);
      },
      "Address of an expert process, HOST:PORT; may be given many times");
  flags.Add<int>(
      "--layers,--layer-end", [](Config& c, const int& v) { c.set_layers(v); },
      "Own layers [0, N): at least the deepest attach depth of the experts (default: all)");
  flags.Add<std::string>(
      "--experts", [](Config& c, const std::string& v) { c.set_experts(v); },
      "Folder of expert packages to compute in this process (default: none)");
}

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "ccoe-backbone: %s\n", std::string(status.message()).c_str());
  return code;
}

int Run(int argc, char** argv) {
  rpc::ShutdownSignals signals;
  CLI::App app(kHelp, "ccoe-backbone");
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
  defaults.mutable_server()->set_listen("127.0.0.1:50056");
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
  const auto node = BackboneNode::Start(*config);
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
}  // namespace ccoe::backbone

int main(int argc, char** argv) {
  try {
    return ccoe::backbone::Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ccoe-backbone: %s\n", error.what());
    return 1;
  }
}
