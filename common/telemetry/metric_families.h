#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <cstddef>

#include "common/telemetry/metric_table.h"

// The table's metrics as prometheus-cpp's. Internal to the library.
namespace ccoe::telemetry {

prometheus::Family<prometheus::Counter>& CounterFamily(prometheus::Registry& registry, MetricId id);
prometheus::Family<prometheus::Gauge>& GaugeFamily(prometheus::Registry& registry, MetricId id);
prometheus::Family<prometheus::Histogram>& HistogramFamily(prometheus::Registry& registry,
                                                           MetricId id,
                                                           const prometheus::Labels& constant = {});
// A child with the buckets of the table.
prometheus::Histogram* AddHistogram(prometheus::Family<prometheus::Histogram>& family, MetricId id,
                                    const prometheus::Labels& labels = {});

// The children of a family with one label, by the order of its values.
template <typename T, size_t N>
std::array<T*, N> AddChildren(prometheus::Family<T>& family, const char* label,
                              const std::array<const char*, N>& values) {
  std::array<T*, N> children;
  for (size_t i = 0; i < N; ++i) children[i] = &family.Add({{label, values[i]}});
  return children;
}
template <size_t N>
std::array<prometheus::Histogram*, N> AddHistograms(
    prometheus::Family<prometheus::Histogram>& family, MetricId id, const char* label,
    const std::array<const char*, N>& values) {
  std::array<prometheus::Histogram*, N> children;
  for (size_t i = 0; i < N; ++i) children[i] = AddHistogram(family, id, {{label, values[i]}});
  return children;
}

inline constexpr size_t kGrpcCodes = 17;
inline constexpr std::array<const char*, 4> kRouteStages = {"explicit", "rules", "learned",
                                                            "fallback"};

}  // namespace ccoe::telemetry
