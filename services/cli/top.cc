#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "services/cli/command.h"
#include "services/cli/top_view.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] =
    R"(Looks at the metrics of the processes named, again and again: requests, tokens and percentiles of each
expert come from routers and `ccoe serve`, sessions and KV memory from whoever computes. What it shows
happened since the look before. docs/metrics.md tells what each process measures.

Examples:
  ccoe serve --model model.gguf --metrics-listen 127.0.0.1:9464 &
  ccoe top 127.0.0.1:9464
  ccoe top router:9464 backbone:9466 expert-sql:9465 --interval 5
  ccoe top router:9464 --once

Exit codes: 0 done; 1 no metrics there; 3 nobody there; 130 interrupted.
)";

struct Options {
  std::vector<std::string> addresses;
  double interval_seconds = 2;
  bool once = false;
};

std::vector<ProcessScrape> Look(const Options& options) {
  std::vector<ProcessScrape> scrapes;
  scrapes.reserve(options.addresses.size());
  for (const std::string& address : options.addresses) {
    scrapes.push_back({address, Scrape(address, absl::Seconds(options.interval_seconds))});
  }
  return scrapes;
}

// The first one's reason, where there is nothing to show.
std::optional<absl::Status> NothingIn(const std::vector<ProcessScrape>& scrapes) {
  for (const ProcessScrape& scrape : scrapes) {
    if (scrape.samples.ok()) return std::nullopt;
  }
  return scrapes.front().samples.status();
}

ExitCode RunTop(Context& context, const Options& options) {
  Terminal& terminal = context.terminal;
  std::vector<ProcessScrape> before = Look(options);
  if (const auto why = NothingIn(before); why.has_value()) {
    terminal.Fail(*why);
    return absl::IsUnavailable(*why) ? ExitCode::kUnreachable : ExitCode::kFailed;
  }
  for (absl::Time at = absl::Now();;) {
    absl::SleepFor(absl::Seconds(options.interval_seconds));
    std::vector<ProcessScrape> after = Look(options);
    const absl::Time now = absl::Now();
    const std::string text = TopText(MakeTopView(before, after, now - at));
    if (terminal.out_is_terminal() && !options.once) terminal.Out("\x1b[H\x1b[J");
    if (!terminal.OutUntrusted(text) || options.once) return ExitCode::kOk;
    if (!terminal.out_is_terminal()) terminal.Out("\n");
    before = std::move(after);
    at = now;
  }
}

}  // namespace

void AddTop(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("top", "Watch running processes by their metrics");
  auto options = std::make_shared<Options>();
  command
      ->add_option("addresses", options->addresses,
                   "Addresses of --metrics-listen, HOST:PORT, of one process or several")
      ->required();
  command->add_option("--interval", options->interval_seconds, "Seconds between looks (default 2)")
      ->check(CLI::Range(0.1, 3600.0));
  command->add_flag("--once", options->once, "Show one interval, then end");
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunTop(context, *options); };
  });
}

}  // namespace ccoe::cli
