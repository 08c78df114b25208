#include <string>

#include "common/rpc/config_flags.h"
#include "common/rpc/program.h"
#include "services/gateway/gateway_node.h"

namespace ccoe::gateway {
namespace {

constexpr char kHelp[] = "Serves the OpenAI-compatible HTTP API in front of a router.";
constexpr char kExamples[] = R"(Once it serves, one line on standard output tells the addresses:

  listening http=127.0.0.1:8080 metrics=127.0.0.1:9464

The router may start before or after it; GET /healthz tells whether it serves. `model` in a request
is auto (the gate decides), a domain, or DOMAIN@VERSION. SIGTERM drains: answers under way are
finished, exit code 0. `ccoe serve --http` serves the same from one process.

Examples:
  ccoe-gateway --router 127.0.0.1:50051 --http 127.0.0.1:8080
  ccoe-gateway --router router:50051 --http :8080 --allow-unauthenticated --metrics-listen :9464
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model": "auto", "messages": [{"role": "user", "content": "What is a tort?"}]}'

Exit codes: 0 ended by a signal, 1 failed to start, 2 wrong usage or configuration.)";

using Config = internal::v1::GatewayConfig;

void AddFlags(rpc::ConfigFlags<Config>& flags) {
  flags.Add<std::string>(
      "--router", [](Config& c, const std::string& v) { c.set_router(v); },
      "Address of the router process, HOST:PORT");
}

int Main(int argc, char** argv) {
  const rpc::Program<Config, GatewayNode> program{
      .name = "ccoe-gateway",
      .version = CCOE_VERSION,
      .help = kHelp,
      .footer = kExamples,
      .default_listen = "",
      .add_flags = AddFlags,
      .check = CheckConfig,
      .start = GatewayNode::Start,
  };
  return program.Run(argc, argv);
}

}  // namespace
}  // namespace ccoe::gateway

int main(int argc, char** argv) { return ccoe::gateway::Main(argc, argv); }
