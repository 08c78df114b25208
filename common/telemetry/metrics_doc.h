#pragma once

#include <string>

namespace ccoe::telemetry {

// docs/metrics.md, made from MetricTable().
std::string MetricsMarkdown();

}  // namespace ccoe::telemetry
