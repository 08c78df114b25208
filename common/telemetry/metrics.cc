#include "common/telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <array>
#include <atomic>

#include "absl/time/clock.h"
#include "common/base/mutex.h"
#include "common/telemetry/expert_families.h"
#include "common/telemetry/key_families.h"
#include "common/telemetry/metric_families.h"

namespace ccoe::telemetry {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;

constexpr std::array<const char*, 3> kPhases = {"prefill", "decode", "mixed"};
constexpr std::array<const char*, 2> kDirections = {"sent", "received"};
constexpr std::array<const char*, 4> kCauses = {"client", "deadline", "slow_reader", "drain"};
constexpr std::array<const char*, 2> kSessionStates = {"running", "waiting"};
constexpr std::array<const char*, 3> kBlockStates = {"free", "cached", "used"};
constexpr size_t kMaxHeld = 4096;  // a demand as large is seen anyway

double Seconds(absl::Duration value) { return absl::ToDoubleSeconds(value); }
double UnixSeconds(absl::Time time) { return Seconds(time - absl::UnixEpoch()); }

bool Shows(const std::string& service, MetricPart part) {
  switch (part) {
    case MetricPart::kRouter:
      return service == "router" || service == "serve";
    case MetricPart::kEngine:
      return service == "backbone" || service == "expert" || service == "serve";
    case MetricPart::kLink:
      return service == "backbone" || service == "expert";
    case MetricPart::kStream:
      return service != "gateway";
    case MetricPart::kHttp:
      return service == "gateway" || service == "serve";
    case MetricPart::kProcess:
      return true;
  }
  return true;
}

}  // namespace

struct Metrics::State : prometheus::Collectable {
  struct Held {
    Gauge* queue;
    absl::Time until;
  };

  explicit State(const MetricsOptions& options);

  std::vector<prometheus::MetricFamily> Collect() const override;
  void ForgetHeld() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // Where the metrics of a part are registered.
  prometheus::Registry& RegistryOf(const std::string& service, MetricPart part) {
    return Shows(service, part) ? shown : hidden;
  }

  prometheus::Registry shown;
  prometheus::Registry hidden;  // never collected: what the service does not show
  prometheus::Registry& router;
  prometheus::Registry& engine;
  prometheus::Registry& link;

  const std::unique_ptr<ExpertFamilies> experts;
  const std::unique_ptr<KeyFamilies> keys;
  std::vector<Counter*> rejected;  // by base::Reason
  std::array<Counter*, kCauses.size()> cancellations;
  Gauge& active;
  Histogram& queue_time;
  Counter& switches;
  std::array<Histogram*, kRouteStages.size()> route_time;
  std::array<Histogram*, kRouteStages.size()> confidence;

  std::array<Histogram*, kPhases.size()> steps;
  Histogram& batch_size;
  Gauge& last_step;
  std::array<Gauge*, kSessionStates.size()> sessions;
  std::array<Gauge*, kBlockStates.size()> blocks;
  Gauge& kv_usage;
  Gauge& boundary_bytes;
  prometheus::Family<Gauge>& model;
  prometheus::Family<Gauge>& certificate;
  std::array<Counter*, kDirections.size()> hidden_bytes;
  Histogram& hidden_send;
  std::array<Counter*, 2> stalls;  // by Stream; both exist, one of them may not be shown
  Gauge& draining;
  prometheus::Family<Counter>& http_requests;
  std::array<std::atomic<int64_t>, 3> total_tokens = {};  // by TokenKind

  mutable base::Mutex mutex;
  std::function<GaugeValues()> source ABSL_GUARDED_BY(mutex);
  mutable std::vector<Held> held ABSL_GUARDED_BY(mutex);
  std::function<absl::Time()> certificate_expiry ABSL_GUARDED_BY(mutex);
};

Metrics::State::State(const MetricsOptions& options)
    : router(RegistryOf(options.service, MetricPart::kRouter)),
      engine(RegistryOf(options.service, MetricPart::kEngine)),
      link(RegistryOf(options.service, MetricPart::kLink)),
      experts(std::make_unique<ExpertFamilies>(router)),
      keys(std::make_unique<KeyFamilies>(router)),
      cancellations(AddChildren(CounterFamily(router, MetricId::kCancellations), "cause", kCauses)),
      active(GaugeFamily(router, MetricId::kActiveRequests).Add({})),
      queue_time(*AddHistogram(HistogramFamily(router, MetricId::kQueueDuration),
                               MetricId::kQueueDuration)),
      switches(CounterFamily(router, MetricId::kExpertSwitches).Add({})),
      route_time(AddHistograms(HistogramFamily(router, MetricId::kRouteDuration),
                               MetricId::kRouteDuration, "stage", kRouteStages)),
      confidence(AddHistograms(HistogramFamily(router, MetricId::kRouteConfidence),
                               MetricId::kRouteConfidence, "stage", kRouteStages)),
      steps(AddHistograms(
          HistogramFamily(engine, MetricId::kStepDuration, {{"service", options.service}}),
          MetricId::kStepDuration, "phase", kPhases)),
      batch_size(
          *AddHistogram(HistogramFamily(engine, MetricId::kBatchSize), MetricId::kBatchSize)),
      last_step(GaugeFamily(engine, MetricId::kLastStep).Add({})),
      sessions(AddChildren(GaugeFamily(engine, MetricId::kSessions), "state", kSessionStates)),
      blocks(AddChildren(GaugeFamily(engine, MetricId::kKvBlocks), "state", kBlockStates)),
      kv_usage(GaugeFamily(engine, MetricId::kKvUsage).Add({})),
      boundary_bytes(GaugeFamily(engine, MetricId::kBoundaryBytes).Add({})),
      model(GaugeFamily(engine, MetricId::kModelInfo)),
      certificate(GaugeFamily(shown, MetricId::kCertificateExpiry)),
      hidden_bytes(
          AddChildren(CounterFamily(link, MetricId::kHiddenBytes), "direction", kDirections)),
      hidden_send(
          *AddHistogram(HistogramFamily(link, MetricId::kHiddenSend), MetricId::kHiddenSend)),
      draining(GaugeFamily(shown, MetricId::kDraining).Add({})),
      http_requests(
          CounterFamily(RegistryOf(options.service, MetricPart::kHttp), MetricId::kHttpRequests)) {
  auto& rejections = CounterFamily(router, MetricId::kRejected);
  rejected.reserve(base::ErrorTable().size());
  for (const base::ErrorEntry& entry : base::ErrorTable()) {
    rejected.push_back(&rejections.Add({{"reason", std::string(entry.name)}}));
  }
  stalls = {&CounterFamily(router, MetricId::kStreamStall).Add({{"stream", "client"}}),
            &CounterFamily(link, MetricId::kStreamStall).Add({{"stream", "link"}})};
  last_step.Set(UnixSeconds(absl::Now()));
  GaugeFamily(shown, MetricId::kBuildInfo)
      .Add({{"service", options.service},
            {"version", options.version},
            {"arithmetic", options.arithmetic}})
      .Set(1);
}

std::vector<prometheus::MetricFamily> Metrics::State::Collect() const {
  {
    // The source is called under the lock, so that it is not in use once SetGaugeSource returned.
    base::MutexLock lock(&mutex);
    ForgetHeld();
    if (certificate_expiry) certificate.Add({}).Set(UnixSeconds(certificate_expiry()));
    if (source) {
      const GaugeValues values = source();
      const int total = values.kv_blocks_free + values.kv_blocks_cached + values.kv_blocks_used;
      blocks[0]->Set(values.kv_blocks_free);
      blocks[1]->Set(values.kv_blocks_cached);
      blocks[2]->Set(values.kv_blocks_used);
      kv_usage.Set(total == 0 ? 0 : static_cast<double>(values.kv_blocks_used) / total);
      boundary_bytes.Set(static_cast<double>(values.boundary_state_bytes));
      active.Set(values.active_requests);
      sessions[0]->Set(values.sessions_running);
      sessions[1]->Set(values.sessions_waiting);
      experts->List(values.experts);
      keys->List(values.keys);
    }
  }
  return shown.Collect();
}

// Those whose time is over.
void Metrics::State::ForgetHeld() const {
  std::erase_if(held, [now = absl::Now()](const Held& place) {
    if (place.until > now) return false;
    place.queue->Decrement();
    return true;
  });
}

Metrics::Metrics(const MetricsOptions& options) : state_(std::make_shared<State>(options)) {}
Metrics::~Metrics() { SetGaugeSource(nullptr); }

void Metrics::AddExpert(const ExpertLabels& expert) { state_->experts->Add(expert); }

void Metrics::SetGaugeSource(std::function<GaugeValues()> source) {
  base::MutexLock lock(&state_->mutex);
  state_->source = std::move(source);
}

void Metrics::SetModel(const std::string& name, const std::string& family,
                       const std::string& digest) {
  state_->model.Add({{"model", name}, {"family", family}, {"digest", digest}}).Set(1);
}

void Metrics::SetDraining() { state_->draining.Set(1); }

void Metrics::WatchCertificate(std::function<absl::Time()> expiry) {
  base::MutexLock lock(&state_->mutex);
  state_->certificate_expiry = std::move(expiry);
}

void Metrics::ObserveRoute(std::string_view domain, RouteStageLabel stage, double confidence,
                           absl::Duration value) {
  const auto index = static_cast<size_t>(stage);
  state_->experts->Of(domain).decisions[index]->Increment();
  state_->route_time[index]->Observe(Seconds(value));
  state_->confidence[index]->Observe(confidence);
}

std::shared_ptr<const void> Metrics::EnterQueue(std::string_view domain) {
  Gauge* const queue = state_->experts->Of(domain).queue;
  queue->Increment();
  return std::shared_ptr<const void>(queue,
                                     [queue, state = state_](const void*) { queue->Decrement(); });
}

void Metrics::HoldInQueue(std::string_view domain, absl::Duration hold) {
  Gauge* const queue = state_->experts->Of(domain).queue;
  base::MutexLock lock(&state_->mutex);
  if (state_->held.size() >= kMaxHeld) state_->ForgetHeld();
  if (state_->held.size() >= kMaxHeld) return;
  queue->Increment();
  state_->held.push_back({queue, absl::Now() + hold});
}

void Metrics::ObserveQueue(absl::Duration value) { state_->queue_time.Observe(Seconds(value)); }

void Metrics::ObserveTimeToFirstToken(const ExpertLabels& expert, absl::Duration value) {
  state_->experts->With(expert,
                        [&](auto& children) { children.first_token->Observe(Seconds(value)); });
}

void Metrics::ObserveInterTokenLatency(const ExpertLabels& expert, absl::Duration value) {
  state_->experts->With(expert,
                        [&](auto& children) { children.inter_token->Observe(Seconds(value)); });
}

void Metrics::ObserveRequest(const ExpertLabels& expert, int grpc_code, absl::Duration value) {
  constexpr size_t kUnknown = 2;
  const bool known = grpc_code >= 0 && grpc_code < static_cast<int>(kGrpcCodes);
  state_->experts->With(expert, [&](auto& children) {
    children.requests[known ? static_cast<size_t>(grpc_code) : kUnknown]->Increment();
    children.duration->Observe(Seconds(value));
  });
}

void Metrics::CountRejection(base::Reason reason) {
  state_->rejected[static_cast<size_t>(reason)]->Increment();
}

void Metrics::CountCancellation(CancelCause cause) {
  state_->cancellations[static_cast<size_t>(cause)]->Increment();
}

void Metrics::AddTokens(const ExpertLabels& expert, TokenKind kind, int64_t tokens) {
  state_->total_tokens[static_cast<size_t>(kind)] += tokens;
  state_->experts->With(expert, [&](auto& children) {
    children.tokens[static_cast<size_t>(kind)]->Increment(static_cast<double>(tokens));
  });
}

int64_t Metrics::TotalTokens(TokenKind kind) const {
  return state_->total_tokens[static_cast<size_t>(kind)];
}

void Metrics::CountExpertSwitch() { state_->switches.Increment(); }

void Metrics::ObserveStep(StepPhase phase, absl::Duration value, int sessions) {
  state_->steps[static_cast<size_t>(phase)]->Observe(Seconds(value));
  state_->batch_size.Observe(sessions);
  state_->last_step.Set(UnixSeconds(absl::Now()));
}

void Metrics::AddHiddenStateBytes(Direction direction, size_t bytes) {
  state_->hidden_bytes[static_cast<size_t>(direction)]->Increment(static_cast<double>(bytes));
}

void Metrics::ObserveHiddenStateSend(absl::Duration value) {
  state_->hidden_send.Observe(Seconds(value));
}

void Metrics::AddStall(Stream stream, absl::Duration value) {
  state_->stalls[static_cast<size_t>(stream)]->Increment(Seconds(value));
}

void Metrics::CountHttpRequest(std::string_view path, int code) {
  state_->http_requests.Add({{"path", std::string(path)}, {"code", std::to_string(code)}})
      .Increment();
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(state_->Collect());
}

std::shared_ptr<prometheus::Collectable> Metrics::collectable() const { return state_; }

}  // namespace ccoe::telemetry
