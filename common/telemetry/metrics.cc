#include "common/telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"

namespace ccoe::telemetry {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

constexpr size_t kMaxDomains = 64;
constexpr char kOtherDomain[] = "other";
constexpr char kNoDomain[] = "none";

constexpr std::array<const char*, 17> kGrpcCodes = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};
constexpr std::array<const char*, 3> kPhases = {"prefill", "decode", "mixed"};
constexpr std::array<const char*, 4> kStages = {"explicit", "rules", "learned", "fallback"};
constexpr std::array<const char*, 2> kDirections = {"sent", "received"};
constexpr std::array<const char*, 4> kCauses = {"client", "deadline", "slow_reader", "drain"};

// Powers of two from `first`, `count` of them, in seconds.
Buckets Doubling(double first, int count) {
  Buckets buckets;
  for (int i = 0; i < count; ++i, first *= 2) buckets.push_back(first);
  return buckets;
}

double Seconds(absl::Duration value) { return absl::ToDoubleSeconds(value); }

}  // namespace

struct Metrics::State : prometheus::Collectable {
  using Codes = std::array<Counter*, kGrpcCodes.size()>;

  explicit State(const MetricsOptions& options);

  std::vector<prometheus::MetricFamily> Collect() const override;
  Codes& DomainCodes(std::string_view domain) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void AddDomain(std::string_view domain) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (domains.size() < kMaxDomains) DomainCodes(domain);
  }

  template <size_t N>
  std::array<Histogram*, N> Histograms(const char* name, const char* help, const char* label,
                                       const std::array<const char*, N>& values,
                                       const prometheus::Labels& constant, const Buckets& buckets) {
    auto& family =
        prometheus::BuildHistogram().Name(name).Help(help).Labels(constant).Register(registry);
    std::array<Histogram*, N> children;
    for (size_t i = 0; i < N; ++i) children[i] = &family.Add({{label, values[i]}}, buckets);
    return children;
  }
  template <size_t N>
  std::array<Counter*, N> Counters(const char* name, const char* help, const char* label,
                                   const std::array<const char*, N>& values) {
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry);
    std::array<Counter*, N> children;
    for (size_t i = 0; i < N; ++i) children[i] = &family.Add({{label, values[i]}});
    return children;
  }
  Counter* SingleCounter(const char* name, const char* help) {
    return &prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  Histogram* SingleHistogram(const char* name, const char* help, const Buckets& buckets) {
    return &prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
  }

  prometheus::Registry registry;
  Histogram* ttft;
  Histogram* itl;
  std::array<Histogram*, 3> steps;
  std::array<Histogram*, 4> routes;
  Histogram* batch_size;
  std::array<Counter*, 2> hidden_bytes;
  Histogram* hidden_send;
  std::array<Counter*, 4> cancellations;
  Counter* prompt_tokens;
  Counter* generated_tokens;
  prometheus::Family<Counter>* requests;
  Gauge* kv_free;
  Gauge* kv_used;
  Gauge* boundary_bytes;
  Gauge* queue;
  Gauge* active;
  Gauge* running;
  Gauge* waiting;

  mutable base::Mutex mutex;
  mutable std::map<std::string, Codes, std::less<>> domains ABSL_GUARDED_BY(mutex);
  std::function<GaugeValues()> source ABSL_GUARDED_BY(mutex);
};

Metrics::State::State(const MetricsOptions& options) {
  ttft = SingleHistogram("ccoe_time_to_first_token_seconds",
                         "From a request's arrival to its first token.", Doubling(0.001, 17));
  itl = SingleHistogram("ccoe_inter_token_latency_seconds",
                        "Between two successive tokens of a request.", Doubling(0.0005, 14));
  steps = Histograms("ccoe_step_duration_seconds", "One step of the engine.", "phase", kPhases,
                     {{"service", options.service}}, Doubling(0.0001, 16));
  routes = Histograms("ccoe_route_duration_seconds", "Finding a prompt's domain.", "stage", kStages,
                      {}, Doubling(0.000001, 18));
  batch_size =
      SingleHistogram("ccoe_batch_size", "Sessions in a step of the engine.", Doubling(1, 10));
  hidden_bytes =
      Counters("ccoe_hidden_state_bytes_total",
               "Hidden states that crossed a link between processes.", "direction", kDirections);
  hidden_send = SingleHistogram("ccoe_hidden_state_send_duration_seconds",
                                "One way of hidden states or their results over a link.",
                                Doubling(0.00002, 16));
  cancellations = Counters("ccoe_cancellations_total", "Requests ended before they were complete.",
                           "cause", kCauses);
  prompt_tokens =
      SingleCounter("ccoe_prompt_tokens_total", "Prompt tokens of requests that finished.");
  generated_tokens =
      SingleCounter("ccoe_generated_tokens_total", "Tokens generated, of all requests.");
  requests = &prometheus::BuildCounter()
                  .Name("ccoe_requests_total")
                  .Help("Requests that ended, by domain and gRPC status code.")
                  .Register(registry);
  auto& blocks = prometheus::BuildGauge()
                     .Name("ccoe_kv_cache_blocks")
                     .Help("Blocks of the KV pool.")
                     .Register(registry);
  kv_free = &blocks.Add({{"state", "free"}});
  kv_used = &blocks.Add({{"state", "used"}});
  boundary_bytes = &prometheus::BuildGauge()
                        .Name("ccoe_boundary_state_bytes")
                        .Help("Memory reserved for the boundary states of live sessions.")
                        .Register(registry)
                        .Add({});
  queue = &prometheus::BuildGauge()
               .Name("ccoe_queue_requests")
               .Help("Requests that wait to start.")
               .Register(registry)
               .Add({});
  active = &prometheus::BuildGauge()
                .Name("ccoe_active_requests")
                .Help("Requests that have not ended, waiting ones included.")
                .Register(registry)
                .Add({});
  auto& sessions = prometheus::BuildGauge()
                       .Name("ccoe_sessions")
                       .Help("Sessions of the engine.")
                       .Register(registry);
  running = &sessions.Add({{"state", "running"}});
  waiting = &sessions.Add({{"state", "waiting"}});
  prometheus::BuildGauge()
      .Name("ccoe_build_info")
      .Help("Always 1; the labels tell what runs.")
      .Register(registry)
      .Add({{"service", options.service},
            {"version", options.version},
            {"arithmetic", options.arithmetic}})
      .Set(1);
  base::MutexLock lock(&mutex);
  DomainCodes(kNoDomain);
  DomainCodes(kOtherDomain);
}

Metrics::State::Codes& Metrics::State::DomainCodes(std::string_view domain) const {
  const auto found = domains.find(domain);
  if (found != domains.end()) return found->second;
  Codes codes;
  for (size_t i = 0; i < kGrpcCodes.size(); ++i) {
    codes[i] = &requests->Add({{"domain", std::string(domain)}, {"grpc_code", kGrpcCodes[i]}});
  }
  return domains.emplace(std::string(domain), codes).first->second;
}

std::vector<prometheus::MetricFamily> Metrics::State::Collect() const {
  {
    // The source is called under the lock, so that it is not in use once SetGaugeSource returned.
    base::MutexLock lock(&mutex);
    if (source) {
      const GaugeValues values = source();
      kv_free->Set(values.kv_blocks_free);
      kv_used->Set(values.kv_blocks_used);
      boundary_bytes->Set(static_cast<double>(values.boundary_state_bytes));
      queue->Set(values.queue_requests);
      active->Set(values.active_requests);
      running->Set(values.sessions_running);
      waiting->Set(values.sessions_waiting);
      for (const std::string& domain : values.domains) AddDomain(domain);
    }
  }
  return registry.Collect();
}

Metrics::Metrics(const MetricsOptions& options) : state_(std::make_shared<State>(options)) {}
Metrics::~Metrics() { SetGaugeSource(nullptr); }

void Metrics::AddDomain(std::string_view domain) {
  base::MutexLock lock(&state_->mutex);
  state_->AddDomain(domain);
}

void Metrics::SetGaugeSource(std::function<GaugeValues()> source) {
  base::MutexLock lock(&state_->mutex);
  state_->source = std::move(source);
}

void Metrics::ObserveTimeToFirstToken(absl::Duration value) {
  state_->ttft->Observe(Seconds(value));
}

void Metrics::ObserveInterTokenLatency(absl::Duration value) {
  state_->itl->Observe(Seconds(value));
}

void Metrics::ObserveStep(StepPhase phase, absl::Duration value, int sessions) {
  state_->steps[static_cast<size_t>(phase)]->Observe(Seconds(value));
  state_->batch_size->Observe(sessions);
}

void Metrics::ObserveRoute(RouteStageLabel stage, absl::Duration value) {
  state_->routes[static_cast<size_t>(stage)]->Observe(Seconds(value));
}

void Metrics::AddHiddenStateBytes(Direction direction, size_t bytes) {
  state_->hidden_bytes[static_cast<size_t>(direction)]->Increment(static_cast<double>(bytes));
}

void Metrics::ObserveHiddenStateSend(absl::Duration value) {
  state_->hidden_send->Observe(Seconds(value));
}

void Metrics::CountRequest(std::string_view domain, int grpc_code) {
  const size_t code = grpc_code >= 0 && grpc_code < static_cast<int>(kGrpcCodes.size())
                          ? static_cast<size_t>(grpc_code)
                          : 2;
  base::MutexLock lock(&state_->mutex);
  auto found = state_->domains.find(domain.empty() ? kNoDomain : domain);
  if (found == state_->domains.end()) found = state_->domains.find(kOtherDomain);
  found->second[code]->Increment();
}

void Metrics::CountCancellation(CancelCause cause) {
  state_->cancellations[static_cast<size_t>(cause)]->Increment();
}

void Metrics::AddPromptTokens(int64_t tokens) {
  state_->prompt_tokens->Increment(static_cast<double>(tokens));
}

void Metrics::AddGeneratedTokens(int64_t tokens) {
  state_->generated_tokens->Increment(static_cast<double>(tokens));
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(state_->Collect());
}

std::shared_ptr<prometheus::Collectable> Metrics::collectable() const { return state_; }

}  // namespace ccoe::telemetry
