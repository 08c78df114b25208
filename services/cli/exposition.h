#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ccoe::cli {

struct Sample {
  std::string name;
  std::map<std::string, std::string, std::less<>> labels;
  double value = 0;

  // Empty where there is no such label.
  std::string_view label(std::string_view name) const;
};

// The samples of a text in Prometheus's exposition format. INVALID_ARGUMENT shows the line that is
// none.
absl::StatusOr<std::vector<Sample>> ParseExposition(std::string_view text);

// What http://ADDRESS/metrics shows. UNAVAILABLE when nobody answers within `timeout`;
// FAILED_PRECONDITION when it is no metrics endpoint.
absl::StatusOr<std::vector<Sample>> Scrape(const std::string& address, absl::Duration timeout);

}  // namespace ccoe::cli
