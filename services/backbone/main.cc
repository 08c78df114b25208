#include <string>
#include <vector>

#include "common/rpc/config_flags.h"
#include "common/rpc/program.h"
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

int Main(int argc, char** argv) {
  const rpc::Program<Config, BackboneNode> program{
      .name = "ccoe-backbone",
      .version = CCOE_VERSION,
      .help = kHelp,
      .footer = kExamples,
      .default_listen = "127.0.0.1:50056",
      .add_flags = AddFlags,
      .check = CheckConfig,
      .start = BackboneNode::Start,
  };
  return program.Run(argc, argv);
}

}  // namespace
}  // namespace ccoe::backbone

int main(int argc, char** argv) { return ccoe::backbone::Main(argc, argv); }
