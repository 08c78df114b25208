#pragma once

#include <map>
#include <string>

#include "absl/types/span.h"
#include "common/telemetry/metric_families.h"
#include "common/telemetry/metrics.h"

// Internal to the library.
namespace ccoe::telemetry {

// The metrics with the label of a key. Not thread-safe.
class KeyFamilies {
 public:
  explicit KeyFamilies(prometheus::Registry& registry);

  // Shows what these keys have, and no other key.
  void List(absl::Span<const KeyUse> keys);

 private:
  struct Key {
    prometheus::Gauge* active;
    prometheus::Counter* tokens;
  };

  prometheus::Family<prometheus::Gauge>& active_;
  prometheus::Family<prometheus::Counter>& tokens_;
  std::map<std::string, Key> keys_;
};

}  // namespace ccoe::telemetry
