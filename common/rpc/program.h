#pragma once

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/config_flags.h"
#include "common/rpc/signals.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {

// A program that serves until a signal ends it. `Config` as for ConfigFlags; a `Node` is what
// serves: it has ReadyLine(), for standard output, and Drain(), false when not all was finished.
template <typename Config, typename Node>
struct Program {
  std::string name;
  std::string version;
  std::string help;            // one sentence
  std::string footer;          // of the help, below the flags
  std::string default_listen;  // "host:port"
  void (*add_flags)(ConfigFlags<Config>&) = nullptr;
  // Of a completed configuration; INVALID_ARGUMENT names the key.
  absl::Status (*check)(const Config&) = nullptr;
  absl::StatusOr<std::unique_ptr<Node>> (*start)(const Config&) = nullptr;

  // The program's main; to be called before any thread is started. The exit code is 0 after a
  // signal or when no more than help, version or configuration was asked for, 1 where it failed to
  // start, 2 for wrong usage or configuration; what was wrong is said on standard error.
  int Run(int argc, char** argv) const {
    try {
      return ParseAndServe(argc, argv);
    } catch (const std::exception& error) {
      return Fail(1, error.what());
    }
  }

 private:
  int ParseAndServe(int argc, char** argv) const {
    ShutdownSignals signals;
    CLI::App app(help, name);
    app.footer(footer);
    app.set_version_flag("--version", version);
    ConfigFlags<Config> flags(app);
    add_flags(flags);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? 0 : 2;
    }
    const absl::StatusOr<Config> config = EffectiveConfig(flags);
    if (!config.ok()) return Fail(2, config.status().message());
    if (const auto answer = flags.Answer(*config); answer.has_value()) {
      std::printf("%s", answer->c_str());
      return 0;
    }
    return Serve(*config, signals);
  }

  absl::StatusOr<Config> EffectiveConfig(const ConfigFlags<Config>& flags) const {
    Config defaults;
    defaults.mutable_server()->set_listen(default_listen);
    CCOE_ASSIGN_OR_RETURN(Config config, flags.Load(std::move(defaults)));
    CCOE_RETURN_IF_ERROR(check(config));
    CCOE_RETURN_IF_ERROR(ApplyLogConfig(config.server()));
    return config;
  }

  int Serve(const Config& config, ShutdownSignals& signals) const {
    const absl::StatusOr<std::unique_ptr<Node>> node = start(config);
    if (!node.ok()) return Fail(1, node.status().message());
    std::printf("%s", (*node)->ReadyLine().c_str());
    std::fflush(stdout);
    signals.Wait();
    telemetry::LogInfo("draining", {});
    const bool finished = (*node)->Drain();
    telemetry::LogInfo("stopped", {{"finished_all", finished}});
    return 0;
  }

  int Fail(int code, absl::string_view why) const {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), std::string(why).c_str());
    return code;
  }
};

}  // namespace ccoe::rpc
