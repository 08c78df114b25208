#include <string>
#include <vector>

#include "common/rpc/config_flags.h"
#include "common/rpc/program.h"
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
  ccoe-expert --model model.gguf --package experts/sql --general --listen 127.0.0.1:50061
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

int Main(int argc, char** argv) {
  const rpc::Program<Config, ExpertNode> program{
      .name = "ccoe-expert",
      .version = CCOE_VERSION,
      .help = kHelp,
      .footer = kExamples,
      .default_listen = "127.0.0.1:50061",
      .add_flags = AddFlags,
      .check = CheckConfig,
      .start = ExpertNode::Start,
  };
  return program.Run(argc, argv);
}

}  // namespace
}  // namespace ccoe::expert

int main(int argc, char** argv) { return ccoe::expert::Main(argc, argv); }
