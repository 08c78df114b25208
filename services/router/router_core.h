#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/telemetry/metrics.h"
#include "services/router/admission.h"
#include "services/router/backbone.h"
#include "services/router/gate.h"
#include "services/router/key_ring.h"
#include "services/router/route_probe.h"
#include "services/router/validation.h"

namespace ccoe::router {

class SessionCall;

// One step of a request that has several: of a plan, or one of several experts that answer the same
// prompt.
struct ResolvedStep {
  RouteDecision decision;
  std::string instruction;  // of a plan
  int max_tokens = 0;
  std::shared_ptr<const Catalog> catalog;  // keeps the expert where it is
  std::shared_ptr<const void> active;      // counts the request at the expert
  runtime::Finished finished;              // once it has ended
  std::string text;                        // of its answer; of a plan
  double mean_logprob = 0;                 // of its answer; of several experts
};

// Where a request goes, and by which catalog.
struct Resolved {
  RouteDecision decision;           // of the first step; of several experts, in the end the chosen
  std::vector<ResolvedStep> steps;  // empty for a request that has but one
  bool undecided = false;           // the prompt's pooled state is still to decide
  std::shared_ptr<const Catalog> catalog;
  std::shared_ptr<const Gate> gate;
  std::shared_ptr<const void> active;  // among CatalogEntry::active_requests while this is there
  absl::Duration route_time;           // the gate's own, of all stages
  std::vector<StageReport> stages;     // where an explanation was asked for
};

// The decision for a request, once the gate's text is at hand (it is not looked at where the target
// is explicit); nullopt where the rules are unsure and there are rows to ask. A pure function.
// NOT_FOUND for a target that is not there; FAILED_PRECONDITION (ROUTE_UNSURE) as the policy says.
absl::StatusOr<std::optional<RouteDecision>> DecideRoute(const Catalog& catalog, const Gate& gate,
                                                         const Target& target,
                                                         const RoutingPolicy& policy,
                                                         std::string_view text);
// The decision where that gave none. As pure; FAILED_PRECONDITION (ROUTE_UNSURE).
absl::StatusOr<RouteDecision> DecideRouteByState(const Catalog& catalog, const Gate& gate,
                                                 const RoutingPolicy& policy,
                                                 absl::Span<const float> pooled);

// What the calls of a router share. Thread-safe; outlives them.
class RouterCore {
 public:
  // `keys` may be null: no key is asked for.
  RouterCore(Backbone* backbone, telemetry::Metrics* metrics, const Limits& limits,
             const KeyRing* keys);

  Backbone& backbone() { return backbone_; }
  telemetry::Metrics& metrics() { return metrics_; }
  const Limits& limits() const { return limits_; }
  const KeyRing* keys() const { return keys_; }
  Admission& admission() { return admission_; }

  // UNAVAILABLE (BACKBONE_UNAVAILABLE) until the backbone was reached.
  absl::StatusOr<std::shared_ptr<const Catalog>> GetCatalog();

  // Tokens that a prompt may have: the limit that is set, or what the model's context leaves. 0
  // until the backbone was reached.
  int MaxPromptTokens();

  // Requests between their beginning and their end, so that a drain can end them (and what Classify
  // has under way). A call leaves before it is destroyed.
  void Join(SessionCall* call);
  void Leave(SessionCall* call);
  void CancelAll(const absl::Status& why);

  // Finds the target of a request as far as its text tells, and observes the time. Calls `done`
  // once, on any thread, perhaps before it returns. Errors as of DecideRoute and GetCatalog.
  void Resolve(const ParsedRequest& request, absl::Time deadline,
               std::function<void(absl::StatusOr<Resolved>)> done);
  // As Resolve, for a request with a plan or with several experts: all its steps. `session`
  // identifies the request and has its queue deadline, where the backbone has to compute a part's
  // state. Returns what ends that. An error names the step.
  std::function<void(const absl::Status&)> ResolveSteps(
      const ParsedRequest& request, const SessionRequest& session, absl::Time deadline,
      std::function<void(absl::StatusOr<Resolved>)> done);
  // Decides what Resolve left undecided. Errors as of DecideRouteByState.
  absl::Status Settle(const RoutingPolicy& policy, absl::Span<const float> pooled,
                      Resolved* resolved);
  // As Resolve, but decides in any case: where the text does not tell, or an explanation was asked
  // for, the backbone computes the prompt's state for it. `session` identifies the request there.
  // Errors as of Admission::Enter and of a session too.
  void Classify(const ParsedRequest& request, const std::shared_ptr<Caller>& caller,
                SessionRequest session, absl::Time deadline,
                std::function<void(absl::StatusOr<Resolved>)> done);

 private:
  // The gate of a catalog; made anew when the catalog has changed.
  std::shared_ptr<const Gate> GateFor(const std::shared_ptr<const Catalog>& catalog);
  // Classify, for a request that has its place. `probes`, where not null, knows of the probe, if
  // one is needed.
  void Decide(const ParsedRequest& request, SessionRequest session, absl::Time deadline,
              RouteProbes* probes, std::function<void(absl::StatusOr<Resolved>)> done);
  void ObserveRoute(const Resolved& resolved);
  absl::StatusOr<Resolved> ResolveNow(const ParsedRequest& request,
                                      std::shared_ptr<const Catalog> catalog,
                                      std::string_view text);

  Backbone& backbone_;
  telemetry::Metrics& metrics_;
  const Limits limits_;
  const KeyRing* const keys_;
  Admission admission_;
  base::Mutex mutex_;
  std::weak_ptr<const Catalog> gate_catalog_ ABSL_GUARDED_BY(mutex_);  // not to be kept
  std::shared_ptr<const Gate> gate_ ABSL_GUARDED_BY(mutex_);
  std::set<SessionCall*> calls_ ABSL_GUARDED_BY(mutex_);
  RouteProbes probes_;
};

}  // namespace ccoe::router
