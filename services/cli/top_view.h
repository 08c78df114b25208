#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/cli/exposition.h"

namespace ccoe::cli {

// What a process's metrics said, or why they could not be read.
struct ProcessScrape {
  std::string address;
  absl::StatusOr<std::vector<Sample>> samples;
};

struct Percentiles {
  double p50 = 0;  // seconds; NaN: nothing was observed
  double p95 = 0;
};

struct ExpertLine {
  std::string domain;
  std::string expert;
  std::string version;
  bool healthy = false;
  double requests_per_second = 0;
  double failures_per_second = 0;  // that did not end with OK
  double tokens_per_second = 0;
  Percentiles first_token;
  Percentiles inter_token;
};

struct ProcessLine {
  std::string address;
  std::string service;
  std::string state;  // "serving", "draining", or why nothing is known
  bool computes = false;
  double running = 0;
  double waiting = 0;
  double kv_usage = 0;  // [0, 1]
  double steps_per_second = 0;
};

struct TopView {
  double active_requests = 0;
  double waiting_requests = 0;
  double rejections_per_second = 0;
  std::vector<ExpertLine> experts;
  std::vector<ProcessLine> processes;
};

// What happened between two looks at the same processes, `interval` apart. A pure function. A
// process that could not be read at one of them counts with nothing. Percentiles are interpolated
// within a bucket, as Prometheus's histogram_quantile does.
TopView MakeTopView(const std::vector<ProcessScrape>& before,
                    const std::vector<ProcessScrape>& after, absl::Duration interval);

// As a table, lines of at most 100 columns. Names are as the processes gave them: untrusted.
std::string TopText(const TopView& view);

}  // namespace ccoe::cli
