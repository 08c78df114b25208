#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace prometheus {
class Collectable;
}  // namespace prometheus

namespace ccoe::telemetry {

enum class StepPhase { kPrefill, kDecode, kMixed };
enum class RouteStageLabel { kExplicit, kRules, kLearned, kFallback };
enum class Direction { kSent, kReceived };
enum class CancelCause { kClient, kDeadline, kSlowReader, kDrain };

struct MetricsOptions {
  std::string service;     // "router", "backbone", "expert", "serve"
  std::string version;     // of the build
  std::string arithmetic;  // empty where nothing is computed
};

// Values that are read when somebody asks for them.
struct GaugeValues {
  int kv_blocks_free = 0;
  int kv_blocks_used = 0;
  size_t boundary_state_bytes = 0;
  int queue_requests = 0;
  int active_requests = 0;
  int sessions_running = 0;
  int sessions_waiting = 0;
  std::vector<std::string> domains;  // as for AddDomain
};

// The Prometheus metrics of one process, ccoe_... (docs/api.md lists them). Every child that
// matters exists at zero from the start; labels are bounded: an unknown domain counts as "other".
// Thread-safe; observing takes no lock that a scrape holds for long.
class Metrics {
 public:
  explicit Metrics(const MetricsOptions& options);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Registers the children of a domain, if they are not yet. At most 64 domains; further ones count
  // as "other".
  void AddDomain(std::string_view domain);
  // Called at each scrape, on the scraper's thread. What it captures outlives this object, or is
  // taken away before by SetGaugeSource(nullptr).
  void SetGaugeSource(std::function<GaugeValues()> source);

  void ObserveTimeToFirstToken(absl::Duration value);
  void ObserveInterTokenLatency(absl::Duration value);
  void ObserveStep(StepPhase phase, absl::Duration value, int sessions);
  void ObserveRoute(RouteStageLabel stage, absl::Duration value);
  void AddHiddenStateBytes(Direction direction, size_t bytes);
  // One way between two processes: half of a round trip without the expert's own time.
  void ObserveHiddenStateSend(absl::Duration value);
  // `domain` is empty for a request that ended before it was routed; `grpc_code` is a status code's
  // number.
  void CountRequest(std::string_view domain, int grpc_code);
  void CountCancellation(CancelCause cause);
  void AddPromptTokens(int64_t tokens);
  void AddGeneratedTokens(int64_t tokens);

  // The exposition text, as a scrape shows it.
  std::string Text() const;
  // For an exposer.
  std::shared_ptr<prometheus::Collectable> collectable() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Serves metrics over HTTP at /metrics until it is destroyed.
class MetricsServer {
 public:
  // `listen` is "host:port", ":port" or "port"; port 0 takes a free one. UNAVAILABLE when it cannot
  // be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& listen,
                                                              const Metrics& metrics);
  ~MetricsServer();
  int port() const;
  // "host:port" of what is bound.
  std::string address() const;

 private:
  struct State;
  explicit MetricsServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ccoe::telemetry
