#include <string>

#include "common/rpc/config_flags.h"
#include "common/rpc/program.h"
#include "services/router/router_node.h"

namespace ccoe::router {
namespace {

constexpr char kHelp[] =
    "Serves the public API: finds a prompt's domain and lets a backbone and its experts answer.";
constexpr char kExamples[] = R"(Once it serves, one line on standard output tells the addresses:

  listening listen=127.0.0.1:50051 health=127.0.0.1:50052 metrics=127.0.0.1:9464

The backbone may start before or after it. SIGTERM drains: what runs is finished, what is new is
refused, exit code 0.

Examples:
  ccoe-router --backbone 127.0.0.1:50056
  ccoe-router --backbone 127.0.0.1:50056 --admin-listen 127.0.0.1:50059
  ccoe-router --backbone backbone:50056 --listen :50051 --api-keys keys.json --metrics-listen :9464 --log-json

Exit codes: 0 ended by a signal, 1 failed to start, 2 wrong usage or configuration.)";

using Config = internal::v1::RouterConfig;

void AddFlags(rpc::ConfigFlags<Config>& flags) {
  flags.Add<std::string>(
      "--backbone", [](Config& c, const std::string& v) { c.set_backbone(v); },
      "Address of the backbone process, HOST:PORT");
}

int Main(int argc, char** argv) {
  const rpc::Program<Config, RouterNode> program{
      .name = "ccoe-router",
      .version = CCOE_VERSION,
      .help = kHelp,
      .footer = kExamples,
      .default_listen = "127.0.0.1:50051",
      .add_flags = AddFlags,
      .check = CheckConfig,
      .start = RouterNode::Start,
  };
  return program.Run(argc, argv);
}

}  // namespace
}  // namespace ccoe::router

int main(int argc, char** argv) { return ccoe::router::Main(argc, argv); }
