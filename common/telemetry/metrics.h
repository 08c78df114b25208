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
#include "common/base/error.h"

namespace prometheus {
class Collectable;
}  // namespace prometheus

namespace ccoe::telemetry {

enum class StepPhase { kPrefill, kDecode, kMixed };
enum class RouteStageLabel { kExplicit, kRules, kLearned, kFallback };
enum class Direction { kSent, kReceived };
enum class CancelCause { kClient, kDeadline, kSlowReader, kDrain };
enum class TokenKind { kPrompt, kCached, kGenerated };
enum class Stream { kClient, kLink };

// Experts that have children of their own at a time, and domains in all.
inline constexpr size_t kMaxExperts = 64;
inline constexpr size_t kMaxDomains = 64;

struct MetricsOptions {
  std::string service;     // "router", "gateway", ...; decides what is shown
  std::string version;     // of the build
  std::string arithmetic;  // empty where nothing is computed
};

// Whose a request is. All empty: it ended before it was routed ("none").
struct ExpertLabels {
  std::string_view domain;
  std::string_view expert;
  std::string_view version;
};

// An expert that requests can be routed to.
struct ListedExpert {
  std::string domain;
  std::string expert;
  std::string version;
  bool healthy = true;
};

// A key that clients show, with what its requests have.
struct KeyUse {
  std::string key;  // its name
  int active_requests = 0;
  int64_t tokens = 0;  // since the process began
};

// Values that are read when somebody asks for them.
struct GaugeValues {
  int kv_blocks_free = 0;
  int kv_blocks_cached = 0;
  int kv_blocks_used = 0;
  size_t boundary_state_bytes = 0;
  int active_requests = 0;
  int sessions_running = 0;
  int sessions_waiting = 0;
  std::vector<ListedExpert> experts;
  std::vector<KeyUse> keys;
};

// The Prometheus metrics of one process, ccoe_... (metric_table.h; docs/metrics.md). Every child
// that matters exists at zero from the start. Labels are bounded, whatever clients send: a domain
// or expert that was not added counts as "other". Thread-safe; observing takes no lock that a
// scrape holds for long. What the service does not show may be observed without effect.
class Metrics {
 public:
  explicit Metrics(const MetricsOptions& options);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Registers the children of an expert and its domain, if they are not yet. A 65th expert takes
  // the place of one that GaugeValues did not list any more, or counts as "other".
  void AddExpert(const ExpertLabels& expert);
  // Called at each scrape, on the scraper's thread. What it captures outlives this object, or is
  // taken away before by SetGaugeSource(nullptr).
  void SetGaugeSource(std::function<GaugeValues()> source);
  void SetModel(const std::string& name, const std::string& family, const std::string& digest);
  void SetDraining();
  // Shows when the certificate of the port ends; asked at each scrape, the epoch where nobody
  // knows.
  void WatchCertificate(std::function<absl::Time()> expiry);

  // The router's.
  void ObserveRoute(std::string_view domain, RouteStageLabel stage, double confidence,
                    absl::Duration value);
  // Counts a request among those that wait for this domain (empty: not routed yet) until the last
  // copy is gone, which may outlive this object.
  std::shared_ptr<const void> EnterQueue(std::string_view domain);
  // Counts a request that was refused because its domain has no replica among those that wait for
  // it, for `hold`: so that a scrape sees that there is a demand.
  void HoldInQueue(std::string_view domain, absl::Duration hold);
  void ObserveQueue(absl::Duration value);
  void ObserveTimeToFirstToken(const ExpertLabels& expert, absl::Duration value);
  void ObserveInterTokenLatency(const ExpertLabels& expert, absl::Duration value);
  // A request that ended; `grpc_code` is a status code's number.
  void ObserveRequest(const ExpertLabels& expert, int grpc_code, absl::Duration value);
  void CountRejection(base::Reason reason);
  void CountCancellation(CancelCause cause);
  void AddTokens(const ExpertLabels& expert, TokenKind kind, int64_t tokens);
  // Of all experts since the start.
  int64_t TotalTokens(TokenKind kind) const;
  void CountExpertSwitch();

  // The engine's and its links'.
  void ObserveStep(StepPhase phase, absl::Duration value, int sessions);
  void AddHiddenStateBytes(Direction direction, size_t bytes);
  // One way between two processes: half of a round trip without the expert's own time.
  void ObserveHiddenStateSend(absl::Duration value);

  void AddStall(Stream stream, absl::Duration value);

  // The gateway's. `path` and `code` have few values.
  void CountHttpRequest(std::string_view path, int code);

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
