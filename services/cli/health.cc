#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "services/cli/call_status.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] =
    R"(Asks grpc.health.v1, which every server answers on its main port and on its health port.

Examples:
  ccoe health --server localhost:50051
  until ccoe health --server localhost:50051 --timeout 1 2>/dev/null; do sleep 1; done

Exit codes: 0 serving; 1 not serving, or no such service; 3 no server there.
)";

struct Options {
  std::string server;
  internal::v1::TlsConfig tls;
  std::string service;
  double timeout_seconds = 5;
  bool json = false;
};

ExitCode RunHealth(Context& context, const Options& options) {
  if (options.json) context.terminal.AnswerInJson();
  const auto client = Client::ForAddress(options.server, options.tls);
  const auto serving = client->IsServing(options.service, absl::Seconds(options.timeout_seconds));
  if (!serving.ok()) {
    context.terminal.Fail(serving.status(),
                          absl::StrCat(options.server, ": ", Explain(serving.status())));
    const bool silent =
        IsUnreachable(serving.status()) || absl::IsDeadlineExceeded(serving.status());
    return silent ? ExitCode::kUnreachable : ExitCode::kFailed;
  }
  const std::string state = *serving ? "SERVING" : "NOT_SERVING";
  if (options.json) {
    context.terminal.OutJson(
        {{"server", options.server}, {"service", options.service}, {"status", state}});
  } else {
    context.terminal.Out(state + "\n");
  }
  return *serving ? ExitCode::kOk : ExitCode::kFailed;
}

}  // namespace

void AddHealth(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("health", "Ask a server whether it is serving");
  auto options = std::make_shared<Options>();
  command->add_option("--server", options->server, "Address, HOST:PORT")->required();
  AddTlsOptions(command, &options->tls);
  command->add_option("--service", options->service,
                      "A service's name (default: the server as a whole)");
  command->add_option("--timeout", options->timeout_seconds, "Seconds to wait (default 5)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "One line of JSON");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunHealth(context, *options); };
  });
}

}  // namespace ccoe::cli
