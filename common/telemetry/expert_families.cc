#include "common/telemetry/expert_families.h"

#include <string_view>
#include <utility>

namespace ccoe::telemetry {
namespace {

constexpr std::array<const char*, kGrpcCodes> kCodeNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

// Stand for what ended before it was routed, and for what was not added.
constexpr ExpertLabels kNone = {"none", "none", "none"};
constexpr ExpertLabels kOther = {"other", "other", "other"};

std::array<std::string_view, 3> ViewOf(const ExpertLabels& labels) {
  return {labels.domain, labels.expert, labels.version};
}

std::array<std::string, 3> KeyOf(const ExpertLabels& labels) {
  return {std::string(labels.domain), std::string(labels.expert), std::string(labels.version)};
}

prometheus::Labels LabelsOf(const ExpertLabels& labels) {
  return {{"domain", std::string(labels.domain)},
          {"expert", std::string(labels.expert)},
          {"version", std::string(labels.version)}};
}

}  // namespace

ExpertFamilies::ExpertFamilies(prometheus::Registry& registry)
    : requests_(CounterFamily(registry, MetricId::kRequests)),
      duration_(HistogramFamily(registry, MetricId::kRequestDuration)),
      first_token_(HistogramFamily(registry, MetricId::kFirstToken)),
      inter_token_(HistogramFamily(registry, MetricId::kInterToken)),
      tokens_{&CounterFamily(registry, MetricId::kPromptTokens),
              &CounterFamily(registry, MetricId::kCachedTokens),
              &CounterFamily(registry, MetricId::kGeneratedTokens)},
      healthy_(GaugeFamily(registry, MetricId::kExpertHealthy)),
      decisions_(CounterFamily(registry, MetricId::kRouteDecisions)),
      queue_(GaugeFamily(registry, MetricId::kQueueRequests)) {
  base::MutexLock lock(&mutex_);
  for (const ExpertLabels& labels : {kNone, kOther}) {
    experts_.emplace(KeyOf(labels), Make(LabelsOf(labels)));
    AddDomain(std::string(labels.domain));
  }
}

void ExpertFamilies::Add(const ExpertLabels& expert) {
  base::MutexLock lock(&mutex_);
  AddLocked(expert);
}

void ExpertFamilies::AddLocked(const ExpertLabels& labels) {
  if (experts_.contains(ViewOf(labels))) return;
  if (domains_.size() < kMaxDomains + 2) AddDomain(std::string(labels.domain));
  const auto domain = domains_.find(labels.domain);
  if (domain == domains_.end() || !MakeRoom()) return;
  experts_.emplace(KeyOf(labels), Make(LabelsOf(labels)));
}

void ExpertFamilies::AddDomain(const std::string& domain) {
  if (domains_.contains(domain)) return;
  Domain children;
  for (size_t i = 0; i < kRouteStages.size(); ++i) {
    children.decisions[i] = &decisions_.Add({{"domain", domain}, {"reason", kRouteStages[i]}});
  }
  children.queue = &queue_.Add({{"domain", domain}});
  domains_.emplace(domain, children);
}

ExpertFamilies::Expert ExpertFamilies::Make(const prometheus::Labels& labels) {
  Expert expert;
  for (size_t i = 0; i < kGrpcCodes; ++i) {
    prometheus::Labels with_code = labels;
    with_code["grpc_code"] = kCodeNames[i];
    expert.requests[i] = &requests_.Add(with_code);
  }
  expert.duration = AddHistogram(duration_, MetricId::kRequestDuration, labels);
  expert.first_token = AddHistogram(first_token_, MetricId::kFirstToken, labels);
  expert.inter_token = AddHistogram(inter_token_, MetricId::kInterToken, labels);
  for (size_t i = 0; i < tokens_.size(); ++i) expert.tokens[i] = &tokens_[i]->Add(labels);
  return expert;
}

bool ExpertFamilies::MakeRoom() {
  if (experts_.size() < kMaxExperts + 2) return true;
  const auto gone = std::find_if(experts_.begin(), experts_.end(), [](const auto& entry) {
    return entry.second.healthy == nullptr && entry.first != KeyOf(kNone) &&
           entry.first != KeyOf(kOther);
  });
  if (gone == experts_.end()) return false;
  Drop(gone->second);
  experts_.erase(gone);
  return true;
}

void ExpertFamilies::Drop(const Expert& expert) {
  for (prometheus::Counter* counter : expert.requests) requests_.Remove(counter);
  duration_.Remove(expert.duration);
  first_token_.Remove(expert.first_token);
  inter_token_.Remove(expert.inter_token);
  for (size_t i = 0; i < tokens_.size(); ++i) tokens_[i]->Remove(expert.tokens[i]);
}

void ExpertFamilies::List(absl::Span<const ListedExpert> experts) {
  base::MutexLock lock(&mutex_);
  std::map<Key, bool> listed;
  for (const ListedExpert& expert : experts) {
    listed.emplace(Key{expert.domain, expert.expert, expert.version}, expert.healthy);
  }
  for (auto& [key, children] : experts_) {
    if (children.healthy == nullptr || listed.contains(key)) continue;
    healthy_.Remove(std::exchange(children.healthy, nullptr));
  }
  for (const auto& [key, healthy] : listed) {
    const auto& [domain, expert, version] = key;
    AddLocked({domain, expert, version});
    const auto found = experts_.find(key);
    if (found == experts_.end()) continue;
    prometheus::Gauge*& gauge = found->second.healthy;
    if (gauge == nullptr) gauge = &healthy_.Add(LabelsOf({domain, expert, version}));
    gauge->Set(healthy ? 1 : 0);
  }
}

ExpertFamilies::Expert& ExpertFamilies::Find(const ExpertLabels& labels) {
  auto found = experts_.find(ViewOf(labels.domain.empty() ? kNone : labels));
  if (found == experts_.end()) found = experts_.find(ViewOf(kOther));
  return found->second;
}

ExpertFamilies::Domain ExpertFamilies::Of(std::string_view domain) {
  base::MutexLock lock(&mutex_);
  auto found = domains_.find(domain.empty() ? kNone.domain : domain);
  if (found == domains_.end()) found = domains_.find(kOther.domain);
  return found->second;
}

}  // namespace ccoe::telemetry
