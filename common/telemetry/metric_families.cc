#include "common/telemetry/metric_families.h"

#include <string>

namespace ccoe::telemetry {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

Family<Counter>& CounterFamily(prometheus::Registry& registry, MetricId id) {
  const MetricEntry& entry = EntryOf(id);
  return prometheus::BuildCounter()
      .Name(std::string(entry.name))
      .Help(std::string(entry.help))
      .Register(registry);
}

Family<Gauge>& GaugeFamily(prometheus::Registry& registry, MetricId id) {
  const MetricEntry& entry = EntryOf(id);
  return prometheus::BuildGauge()
      .Name(std::string(entry.name))
      .Help(std::string(entry.help))
      .Register(registry);
}

Family<Histogram>& HistogramFamily(prometheus::Registry& registry, MetricId id,
                                   const prometheus::Labels& constant) {
  const MetricEntry& entry = EntryOf(id);
  return prometheus::BuildHistogram()
      .Name(std::string(entry.name))
      .Help(std::string(entry.help))
      .Labels(constant)
      .Register(registry);
}

Histogram* AddHistogram(Family<Histogram>& family, MetricId id, const prometheus::Labels& labels) {
  const absl::Span<const double> buckets = EntryOf(id).buckets;
  return &family.Add(labels, Histogram::BucketBoundaries(buckets.begin(), buckets.end()));
}

}  // namespace ccoe::telemetry
