#include "common/telemetry/metrics_doc.h"

#include "absl/strings/str_cat.h"
#include "common/telemetry/metric_table.h"
#include "common/telemetry/metrics.h"

namespace ccoe::telemetry {
namespace {

constexpr char kHead[] = R"(# Metrics

<!-- Generated from common/telemetry/metric_table.cc by ccoe-metrics-doc; do not edit. -->

Every process serves Prometheus metrics at `/metrics` of the address given by `--metrics-listen`.
`deploy/prometheus` has a configuration of Prometheus with alerts, [runbooks.md](runbooks.md) what to do
about each; `deploy/grafana` dashboards; `make observe` shows them at
work.

Names, labels and units stay. Counters end in `_total`, times are in seconds. The children of every
label that has few values exist at zero from the start, and so do those of every expert that is
served. Values come from the configuration and the packages, never from a client: what ended before
it was routed has `none` in `domain`, `expert` and `version`.

At most )";

constexpr char kTableHead[] = R"( have children of their own at a time, further ones count as
`other`. An expert that is not served any more keeps its children until their place is needed, without
`ccoe_expert_healthy`.

| Metric | Type | Where | Labels | Meaning |
|---|---|---|---|---|
)";

constexpr char kSignals[] = R"(
## Signals for the Gateway API Inference Extension

Its endpoint picker chooses among servers by three gauges of each. Every process with an engine
(`ccoe serve`, backbone, expert) shows them:

| signal | metric |
|---|---|
| TotalQueuedRequests | `ccoe_sessions{state="waiting"}` |
| TotalRunningRequests | `ccoe_sessions{state="running"}` |
| KVCacheUtilization | `ccoe_kv_cache_usage_ratio`, in [0, 1] |

A router has no engine; `ccoe_queue_requests` tells what waits at it, by domain.
)";

const char* TypeText(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "gauge";
}

const char* PartText(MetricPart part) {
  switch (part) {
    case MetricPart::kRouter:
      return "router, serve";
    case MetricPart::kEngine:
      return "backbone, expert, serve";
    case MetricPart::kLink:
      return "backbone, expert";
    case MetricPart::kStream:
      return "router, backbone, expert, serve";
    case MetricPart::kHttp:
      return "gateway, serve";
    case MetricPart::kProcess:
      return "all";
  }
  return "all";
}

}  // namespace

std::string MetricsMarkdown() {
  std::string text =
      absl::StrCat(kHead, kMaxExperts, " experts and ", kMaxDomains, " domains", kTableHead);
  for (const MetricEntry& entry : MetricTable()) {
    absl::StrAppend(&text, "| `", std::string(entry.name), "` | ", TypeText(entry.type), " | ",
                    PartText(entry.part), " | ", std::string(entry.labels), " | ",
                    std::string(entry.help), " |\n");
  }
  absl::StrAppend(&text, "\n## Buckets\n\n| Histogram | Upper bounds |\n|---|---|\n");
  for (const MetricEntry& entry : MetricTable()) {
    if (entry.type != MetricType::kHistogram) continue;
    absl::StrAppend(&text, "| `", std::string(entry.name), "` |");
    for (const double bound : entry.buckets) absl::StrAppend(&text, " ", bound);
    absl::StrAppend(&text, " |\n");
  }
  return text + kSignals;
}

}  // namespace ccoe::telemetry
