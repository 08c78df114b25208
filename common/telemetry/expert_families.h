#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "absl/types/span.h"
#include "common/base/mutex.h"
#include "common/telemetry/metric_families.h"
#include "common/telemetry/metrics.h"

// Internal to the library.
namespace ccoe::telemetry {

// The metrics with the labels of an expert or a domain. Thread-safe.
class ExpertFamilies {
 public:
  struct Expert {
    std::array<prometheus::Counter*, kGrpcCodes> requests;
    prometheus::Histogram* duration;
    prometheus::Histogram* first_token;
    prometheus::Histogram* inter_token;
    std::array<prometheus::Counter*, 3> tokens;  // by TokenKind
    prometheus::Gauge* healthy = nullptr;        // while it is listed
  };
  struct Domain {
    std::array<prometheus::Counter*, kRouteStages.size()> decisions;
    prometheus::Gauge* queue;
  };

  explicit ExpertFamilies(prometheus::Registry& registry);

  void Add(const ExpertLabels& expert);
  // Those that can be routed to now. The others' health is not shown any more.
  void List(absl::Span<const ListedExpert> experts);

  // Calls `observe` with the children of an expert, or of what it counts as.
  template <typename Observe>
  void With(const ExpertLabels& labels, Observe observe) {
    base::MutexLock lock(&mutex_);
    observe(Find(labels));
  }
  // Of a domain, or of what it counts as; stays valid.
  Domain Of(std::string_view domain);

 private:
  using Key = std::array<std::string, 3>;  // domain, expert, version
  struct Less {                            // of keys and of views of them
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
  };

  Expert& Find(const ExpertLabels& labels) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddLocked(const ExpertLabels& labels) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddDomain(const std::string& domain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Expert Make(const prometheus::Labels& labels);
  // Makes room for one more; false when all that are there are listed.
  bool MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(const Expert& expert);

  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& duration_;
  prometheus::Family<prometheus::Histogram>& first_token_;
  prometheus::Family<prometheus::Histogram>& inter_token_;
  const std::array<prometheus::Family<prometheus::Counter>*, 3> tokens_;
  prometheus::Family<prometheus::Gauge>& healthy_;
  prometheus::Family<prometheus::Counter>& decisions_;
  prometheus::Family<prometheus::Gauge>& queue_;

  base::Mutex mutex_;
  std::map<Key, Expert, Less> experts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Domain, std::less<>> domains_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::telemetry
