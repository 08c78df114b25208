#include "services/cli/top_view.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ccoe::cli {
namespace {

using Key = std::tuple<std::string, std::string, std::string>;  // domain, expert, version
using Wanted = std::function<bool(const Sample&)>;

bool Any(const Sample& /*sample*/) { return true; }

Key KeyOf(const Sample& sample) {
  return {std::string(sample.label("domain")), std::string(sample.label("expert")),
          std::string(sample.label("version"))};
}

double Sum(const ProcessScrape& scrape, std::string_view name, const Wanted& wanted = Any) {
  if (!scrape.samples.ok()) return 0;
  double sum = 0;
  for (const Sample& sample : *scrape.samples) {
    if (sample.name == name && wanted(sample)) sum += sample.value;
  }
  return sum;
}

// Two looks at the same processes.
class Looks {
 public:
  Looks(const std::vector<ProcessScrape>& before, const std::vector<ProcessScrape>& after,
        absl::Duration interval)
      : before_(before), after_(after), seconds_(absl::ToDoubleSeconds(interval)) {}

  // How much a counter grew in one process; one that was started anew began at zero.
  double Growth(size_t process, std::string_view name, const Wanted& wanted = Any) const {
    if (!before_[process].samples.ok() || !after_[process].samples.ok()) return 0;
    const double grown = Sum(after_[process], name, wanted);
    const double had = Sum(before_[process], name, wanted);
    return grown >= had ? grown - had : grown;
  }
  double Rate(size_t process, std::string_view name, const Wanted& wanted = Any) const {
    return Growth(process, name, wanted) / seconds_;
  }
  double Rate(std::string_view name, const Wanted& wanted = Any) const {
    double sum = 0;
    for (size_t i = 0; i < after_.size(); ++i) sum += Rate(i, name, wanted);
    return sum;
  }

  Percentiles PercentilesOf(const std::string& histogram, const Key& expert) const {
    std::map<double, double> counts;  // by upper bound, cumulative
    for (size_t i = 0; i < after_.size(); ++i)
      AddBuckets(i, histogram + "_bucket", expert, &counts);
    return {Quantile(counts, 0.5), Quantile(counts, 0.95)};
  }

 private:
  void AddBuckets(size_t process, const std::string& name, const Key& expert,
                  std::map<double, double>* counts) const {
    if (!after_[process].samples.ok()) return;
    for (const Sample& sample : *after_[process].samples) {
      double bound = 0;
      if (sample.name != name || KeyOf(sample) != expert) continue;
      const std::string_view le = sample.label("le");
      if (!absl::SimpleAtod({le.data(), le.size()}, &bound)) continue;
      (*counts)[bound] += Growth(process, name, [&](const Sample& other) {
        return other.label("le") == le && KeyOf(other) == expert;
      });
    }
  }

  static double Quantile(const std::map<double, double>& counts, double quantile) {
    if (counts.empty() || !(counts.rbegin()->second > 0)) {
      return std::numeric_limits<double>::quiet_NaN();
    }
    const double rank = quantile * counts.rbegin()->second;
    double lower_bound = 0;
    double below = 0;
    for (const auto& [bound, count] : counts) {
      if (count >= rank) {
        if (std::isinf(bound)) return lower_bound;
        return lower_bound + (bound - lower_bound) * (rank - below) / (count - below);
      }
      lower_bound = bound;
      below = count;
    }
    return lower_bound;
  }

  const std::vector<ProcessScrape>& before_;
  const std::vector<ProcessScrape>& after_;
  const double seconds_;
};

ProcessLine LineOf(const Looks& looks, const ProcessScrape& scrape, size_t index) {
  ProcessLine line;
  line.address = scrape.address;
  if (!scrape.samples.ok()) {
    line.state = std::string(scrape.samples.status().message());
    return line;
  }
  line.state = Sum(scrape, "ccoe_draining") > 0 ? "draining" : "serving";
  for (const Sample& sample : *scrape.samples) {
    if (sample.name == "ccoe_build_info") line.service = sample.label("service");
    line.computes = line.computes || sample.name == "ccoe_sessions";
  }
  const auto in_state = [](std::string_view state) {
    return [state](const Sample& sample) { return sample.label("state") == state; };
  };
  line.running = Sum(scrape, "ccoe_sessions", in_state("running"));
  line.waiting = Sum(scrape, "ccoe_sessions", in_state("waiting"));
  line.kv_usage = Sum(scrape, "ccoe_kv_cache_usage_ratio");
  line.steps_per_second = looks.Rate(index, "ccoe_step_duration_seconds_count");
  return line;
}

ExpertLine LineOf(const Looks& looks, const Key& expert, bool healthy) {
  ExpertLine line;
  std::tie(line.domain, line.expert, line.version) = expert;
  line.healthy = healthy;
  const Wanted its = [&](const Sample& sample) { return KeyOf(sample) == expert; };
  line.requests_per_second = looks.Rate("ccoe_requests_total", its);
  line.failures_per_second = looks.Rate("ccoe_requests_total", [&](const Sample& sample) {
    return its(sample) && sample.label("grpc_code") != "OK";
  });
  line.tokens_per_second = looks.Rate("ccoe_generated_tokens_total", its);
  line.first_token = looks.PercentilesOf("ccoe_time_to_first_token_seconds", expert);
  line.inter_token = looks.PercentilesOf("ccoe_inter_token_latency_seconds", expert);
  return line;
}

// Milliseconds, in five columns.
std::string Ms(double seconds) {
  return std::isnan(seconds) ? "-" : absl::StrFormat("%.*f", seconds < 0.1 ? 1 : 0, seconds * 1000);
}

std::string Cut(const std::string& text, size_t columns) { return text.substr(0, columns); }

}  // namespace

TopView MakeTopView(const std::vector<ProcessScrape>& before,
                    const std::vector<ProcessScrape>& after, absl::Duration interval) {
  const Looks looks(before, after, interval);
  TopView view;
  std::map<Key, bool> experts;  // and whether a router can reach them
  for (size_t i = 0; i < after.size(); ++i) {
    view.active_requests += Sum(after[i], "ccoe_active_requests");
    view.waiting_requests += Sum(after[i], "ccoe_queue_requests");
    view.processes.push_back(LineOf(looks, after[i], i));
    if (!after[i].samples.ok()) continue;
    for (const Sample& sample : *after[i].samples) {
      if (sample.name != "ccoe_expert_healthy") continue;
      bool& healthy = experts[KeyOf(sample)];
      healthy = healthy || sample.value > 0;
    }
  }
  view.rejections_per_second = looks.Rate("ccoe_requests_rejected_total");
  for (const auto& [expert, healthy] : experts) {
    view.experts.push_back(LineOf(looks, expert, healthy));
  }
  return view;
}

std::string TopText(const TopView& view) {
  double requests = 0;
  double tokens = 0;
  for (const ExpertLine& line : view.experts) {
    requests += line.requests_per_second;
    tokens += line.tokens_per_second;
  }
  std::string text = absl::StrFormat(
      "%.1f requests/s, %.1f refused/s, %.1f tokens/s; %.0f active, %.0f waiting\n\n", requests,
      view.rejections_per_second, tokens, view.active_requests, view.waiting_requests);
  absl::StrAppend(&text, absl::StrFormat("%-14s %-10s %-6s %7s %7s %8s %9s %7s %9s %7s\n", "EXPERT",
                                         "VERSION", "STATE", "REQ/S", "FAIL/S", "TOKENS/S",
                                         "TTFT p50", "p95 ms", "ITL p50", "p95 ms"));
  for (const ExpertLine& line : view.experts) {
    absl::StrAppend(
        &text, absl::StrFormat(
                   "%-14s %-10s %-6s %7.1f %7.1f %8.1f %9s %7s %9s %7s\n", Cut(line.expert, 14),
                   Cut(line.version, 10), line.healthy ? "ready" : "down", line.requests_per_second,
                   line.failures_per_second, line.tokens_per_second, Ms(line.first_token.p50),
                   Ms(line.first_token.p95), Ms(line.inter_token.p50), Ms(line.inter_token.p95)));
  }
  absl::StrAppend(&text, absl::StrFormat("\n%-9s %-24s %8s %8s %8s %8s  %s\n", "PROCESS", "ADDRESS",
                                         "RUNNING", "WAITING", "KV USED", "STEPS/S", "STATE"));
  for (const ProcessLine& line : view.processes) {
    const auto number = [&](const std::string& value) { return line.computes ? value : "-"; };
    absl::StrAppend(
        &text, absl::StrFormat("%-9s %-24s %8s %8s %8s %8s  %s\n", Cut(line.service, 9),
                               Cut(line.address, 24), number(absl::StrCat(line.running)),
                               number(absl::StrCat(line.waiting)),
                               number(absl::StrFormat("%.0f %%", line.kv_usage * 100)),
                               number(absl::StrFormat("%.1f", line.steps_per_second)), line.state));
  }
  return text;
}

}  // namespace ccoe::cli
