#pragma once

#include <string_view>

#include "absl/types/span.h"

namespace ccoe::telemetry {

// Every metric. Names, labels and units never change; what a name counts neither.
enum class MetricId {
  // requests
  kRequests,
  kRequestDuration,
  kFirstToken,
  kInterToken,
  kRejected,
  kCancellations,
  kActiveRequests,
  kQueueRequests,
  kQueueDuration,
  kPromptTokens,
  kCachedTokens,
  kGeneratedTokens,
  kExpertSwitches,
  kKeyActiveRequests,
  kKeyTokens,
  // routing
  kRouteDecisions,
  kRouteDuration,
  kRouteConfidence,
  kExpertHealthy,
  // the engine
  kStepDuration,
  kBatchSize,
  kLastStep,
  kSessions,
  kKvBlocks,
  kKvUsage,
  kBoundaryBytes,
  // streams
  kHiddenBytes,
  kHiddenSend,
  kStreamStall,
  // the process
  kDraining,
  kCertificateExpiry,
  kBuildInfo,
  kModelInfo,
  // HTTP
  kHttpRequests,
};

enum class MetricType { kCounter, kGauge, kHistogram };

// Which processes show a metric. `ccoe serve` is router and engine in one.
enum class MetricPart {
  kRouter,   // router, serve
  kEngine,   // backbone, expert, serve
  kLink,     // backbone, expert
  kStream,   // router, backbone, expert, serve
  kHttp,     // gateway, serve
  kProcess,  // all
};

struct MetricEntry {
  MetricId id;
  std::string_view name;
  MetricType type;
  MetricPart part;
  std::string_view labels;                // in the manner of the documentation; empty: none
  std::string_view help;                  // a sentence
  absl::Span<const double> buckets = {};  // upper bounds of a histogram, ascending
};

// In the order of the enumeration.
absl::Span<const MetricEntry> MetricTable();
const MetricEntry& EntryOf(MetricId id);

}  // namespace ccoe::telemetry
