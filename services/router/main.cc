#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "common/rpc/config_flags.h"
#include "common/rpc/engine_node.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/signals.h"
#include "common/telemetry/log.h"
#include "services/router/health_follower.h"
#include "services/router/remote_backbone.h"
#include "services/router/router.h"

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
  ccoe-router --backbone backbone:50056 --listen 0.0.0.0:50051 --metrics-listen :9464 --log-json

Exit codes: 0 ended by a signal, 1 failed to start, 2 wrong usage or configuration.)";

// The first request need not fail because the backbone has not been reached yet.
constexpr absl::Duration kFirstContact = absl::Seconds(5);
// The time that calls have to end after they were cancelled.
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

using Config = internal::v1::RouterConfig;

void AddFlags(rpc::ConfigFlags<Config>& flags) {
  flags.Add<std::string>(
      "--backbone", [](Config& c, const std::string& v) { c.set_backbone(v); },
      "Address of the backbone process, HOST:PORT");
}

absl::Status CheckConfig(const Config& config) {
  if (!config.backbone().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("backbone is missing: the address of a backbone process");
}

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "ccoe-router: %s\n", std::string(status.message()).c_str());
  return code;
}

int Serve(const Config& config, rpc::ShutdownSignals& signals) {
  telemetry::Metrics metrics({"router", CCOE_VERSION, ""});
  RemoteBackbone backbone({.address = config.backbone()});
  if (!backbone.WaitUntilReached(kFirstContact)) {
    telemetry::LogWarning(
        "backbone_not_reached",
        {{"backbone", config.backbone()}, {"message", std::string(backbone.Health().message())}});
  }
  Router router(
      {&backbone, &metrics, LimitsFromConfig(config.limits(), config.server()), CCOE_VERSION});
  absl::StatusOr<rpc::NodePorts> ports =
      rpc::OpenPorts(config.server(), metrics, router.services());
  if (!ports.ok()) return Fail(1, ports.status());
  telemetry::LogInfo("serving", {{"listen", ports->server->address()},
                                 {"backbone", config.backbone()},
                                 {"version", CCOE_VERSION}});
  auto health = std::make_unique<HealthFollower>(backbone, *ports->server);
  std::printf("%s", ports->ReadyLine().c_str());
  std::fflush(stdout);
  signals.Wait();
  telemetry::LogInfo("draining", {});
  health.reset();
  ports->server->SetHealth(rpc::Server::Health::kNotServing);
  const bool finished = router.Drain(rpc::FromProto(config.server().drain_timeout()));
  ports->server->Shutdown(kShutdownGrace);
  telemetry::LogInfo("stopped", {{"finished_all", finished}});
  return 0;
}

int Run(int argc, char** argv) {
  rpc::ShutdownSignals signals;
  CLI::App app(kHelp, "ccoe-router");
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
  defaults.mutable_server()->set_listen("127.0.0.1:50051");
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
  return Serve(*config, signals);
}

}  // namespace
}  // namespace ccoe::router

int main(int argc, char** argv) {
  try {
    return ccoe::router::Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ccoe-router: %s\n", error.what());
    return 1;
  }
}
