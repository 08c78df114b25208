// Prints docs/metrics.md: `ccoe-metrics-doc > docs/metrics.md` after a change of the table of
// metrics.
#include <iostream>

#include "common/telemetry/metrics_doc.h"

int main() {
  std::cout << ccoe::telemetry::MetricsMarkdown();
  return std::cout.good() ? 0 : 1;
}
