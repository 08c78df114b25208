#include "services/router/router_core.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/telemetry/log.h"
#include "services/router/catalog.h"
#include "services/router/plan_request.h"
#include "services/router/session_call.h"

namespace ccoe::router {
namespace {

// What clients are told to wait after QUEUE_FULL: about the time of a short answer.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

telemetry::RouteStageLabel LabelOf(RouteStage stage) {
  switch (stage) {
    case RouteStage::kExplicit:
      return telemetry::RouteStageLabel::kExplicit;
    case RouteStage::kRules:
      return telemetry::RouteStageLabel::kRules;
    case RouteStage::kLearned:
      return telemetry::RouteStageLabel::kLearned;
    case RouteStage::kFallback:
      return telemetry::RouteStageLabel::kFallback;
  }
  return telemetry::RouteStageLabel::kFallback;
}

RouteDecision Explicit(const CatalogEntry& entry) {
  RouteDecision decision;
  decision.domain = entry.info.domain;
  decision.expert = entry.info.key;
  decision.stage = RouteStage::kExplicit;
  decision.confidence = 1;
  return decision;
}

absl::Status Unsure(const RouteDecision& decision) {
  return base::MakeError(
      base::Reason::kRouteUnsure,
      absl::StrCat("no domain claims the prompt with enough confidence; the best guess is '",
                   decision.domain, "' with ", decision.confidence),
      {.metadata = {{"domain", decision.domain}, {"confidence", absl::StrCat(decision.confidence)}},
       .retry_after = {}});
}

bool IsUnsure(const RouteDecision& decision, const RoutingPolicy& policy) {
  return decision.stage == RouteStage::kFallback || decision.confidence < policy.min_confidence;
}

// The last stage's decision, as the policy takes it, with its expert.
absl::StatusOr<RouteDecision> Conclude(const Catalog& catalog, const RoutingPolicy& policy,
                                       RouteDecision decision) {
  if (IsUnsure(decision, policy)) {
    if (policy.on_unsure == RoutingPolicy::OnUnsure::kFail) return Unsure(decision);
    if (decision.stage != RouteStage::kFallback) {
      decision.runner_up = std::exchange(decision.domain, runtime::kGeneralExpert);
      decision.stage = RouteStage::kFallback;
      decision.confidence = 1 - decision.confidence;
    }
  }
  CCOE_ASSIGN_OR_RETURN(const CatalogEntry* entry,
                        FindDomain(catalog, decision.domain, policy.draw));
  decision.expert = entry->info.key;
  return decision;
}

// Counts a request at the expert that it was decided for, until the last copy is gone.
std::shared_ptr<const void> CountAt(const Catalog& catalog, const runtime::ExpertKey& expert) {
  const absl::StatusOr<const CatalogEntry*> entry = FindExpert(catalog, expert);
  if (!entry.ok() || (*entry)->active_requests == nullptr) return nullptr;
  const std::shared_ptr<std::atomic<int>> count = (*entry)->active_requests;
  ++*count;
  return std::shared_ptr<const void>(count.get(), [count](const void*) { --*count; });
}

absl::Status CheckState(const Catalog& catalog, absl::Span<const float> pooled) {
  const bool finite =
      std::all_of(pooled.begin(), pooled.end(), [](float value) { return std::isfinite(value); });
  if (finite && static_cast<int>(pooled.size()) == catalog.model.hidden) return absl::OkStatus();
  return absl::InternalError(
      "the backbone's pooled state is not finite, or not as wide as the model");
}

absl::Status ExplainRows(absl::Duration state_time, absl::Span<const float> pooled,
                         Resolved* resolved) {
  CCOE_RETURN_IF_ERROR(CheckState(*resolved->catalog, pooled));
  const absl::Time begin = absl::Now();
  StageReport& report = resolved->stages.emplace_back();
  report.stage = RouteStage::kLearned;
  report.scores = resolved->gate->rows().Decide(pooled).scores;
  report.time = absl::Now() - begin;
  report.state_time = state_time;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<RouteDecision>> DecideRoute(const Catalog& catalog, const Gate& gate,
                                                         const Target& target,
                                                         const RoutingPolicy& policy,
                                                         std::string_view text) {
  if (const auto* domain = std::get_if<std::string>(&target)) {
    CCOE_ASSIGN_OR_RETURN(const CatalogEntry* entry, FindDomain(catalog, *domain, policy.draw));
    return Explicit(*entry);
  }
  if (const auto* key = std::get_if<runtime::ExpertKey>(&target)) {
    CCOE_ASSIGN_OR_RETURN(const CatalogEntry* entry, ChooseExpert(catalog, *key, policy.draw));
    return Explicit(*entry);
  }
  RouteDecision decision = gate.rules().Decide(text);
  if (IsUnsure(decision, policy) && gate.rows().routing_layer() > 0) return std::nullopt;
  return Conclude(catalog, policy, std::move(decision));
}

absl::StatusOr<RouteDecision> DecideRouteByState(const Catalog& catalog, const Gate& gate,
                                                 const RoutingPolicy& policy,
                                                 absl::Span<const float> pooled) {
  CCOE_RETURN_IF_ERROR(CheckState(catalog, pooled));
  return Conclude(catalog, policy, gate.rows().Decide(pooled));
}

RouterCore::RouterCore(Backbone* backbone, telemetry::Metrics* metrics, const Limits& limits,
                       const KeyRing* keys)
    : backbone_(*backbone),
      metrics_(*metrics),
      limits_(limits),
      keys_(keys),
      admission_(limits.max_active_requests, kRetryAfter) {}

absl::StatusOr<std::shared_ptr<const Catalog>> RouterCore::GetCatalog() {
  std::shared_ptr<const Catalog> catalog = backbone_.GetCatalog();
  if (catalog != nullptr) return catalog;
  return base::MakeError(base::Reason::kBackboneUnavailable, "no backbone has been reached yet",
                         {.metadata = {}, .retry_after = kRetryAfter});
}

int RouterCore::MaxPromptTokens() {
  const std::shared_ptr<const Catalog> catalog = backbone_.GetCatalog();
  if (catalog == nullptr) return limits_.max_prompt_tokens;
  const int room = catalog->model.context_tokens - 1;
  return limits_.max_prompt_tokens > 0 ? std::min(room, limits_.max_prompt_tokens) : room;
}

std::shared_ptr<const Gate> RouterCore::GateFor(const std::shared_ptr<const Catalog>& catalog) {
  base::MutexLock lock(&mutex_);
  if (gate_catalog_.lock() != catalog) {
    gate_ = std::make_shared<const Gate>(*catalog);
    gate_catalog_ = catalog;
    if (gate_->rows().unused() > 0) {
      telemetry::LogWarning("gate_rows_left_out", {{"rows", gate_->rows().unused()},
                                                   {"message",
                                                    "their routing layer is not the others', or an "
                                                    "expert attaches above it"}});
    }
    for (const CatalogEntry& entry : catalog->experts) {
      metrics_.AddExpert({entry.info.domain, entry.info.key.name, entry.info.key.version});
    }
  }
  return gate_;
}

void RouterCore::ObserveRoute(const Resolved& resolved) {
  const RouteDecision& decision = resolved.decision;
  metrics_.ObserveRoute(decision.domain, LabelOf(decision.stage), decision.confidence,
                        resolved.route_time);
}

absl::StatusOr<Resolved> RouterCore::ResolveNow(const ParsedRequest& request,
                                                std::shared_ptr<const Catalog> catalog,
                                                std::string_view text) {
  const std::shared_ptr<const Gate> gate = GateFor(catalog);
  const absl::Time begin = absl::Now();
  Resolved resolved;
  CCOE_ASSIGN_OR_RETURN(std::optional<RouteDecision> decision,
                        DecideRoute(*catalog, *gate, request.target, request.routing, text));
  resolved.route_time = absl::Now() - begin;
  resolved.catalog = std::move(catalog);
  resolved.gate = gate;
  resolved.undecided = !decision.has_value();
  if (decision.has_value()) {
    resolved.decision = *std::move(decision);
    resolved.active = CountAt(*resolved.catalog, resolved.decision.expert);
    ObserveRoute(resolved);
  }
  if (request.explain_route) {
    StageReport& report = resolved.stages.emplace_back();
    report.time = resolved.route_time;
    report.scores = gate->rules().Decide(text, &report.hits).scores;
  }
  return resolved;
}

absl::Status RouterCore::Settle(const RoutingPolicy& policy, absl::Span<const float> pooled,
                                Resolved* resolved) {
  const absl::Time begin = absl::Now();
  CCOE_ASSIGN_OR_RETURN(resolved->decision,
                        DecideRouteByState(*resolved->catalog, *resolved->gate, policy, pooled));
  resolved->active = CountAt(*resolved->catalog, resolved->decision.expert);
  resolved->undecided = false;
  resolved->route_time += absl::Now() - begin;
  ObserveRoute(*resolved);
  return absl::OkStatus();
}

void RouterCore::Classify(const ParsedRequest& request, const std::shared_ptr<Caller>& caller,
                          SessionRequest session, absl::Time deadline,
                          std::function<void(absl::StatusOr<Resolved>)> done) {
  absl::StatusOr<std::unique_ptr<Admission::Ticket>> entered = admission_.Enter(caller);
  if (!entered.ok()) return done(entered.status());
  // The place is given back before the end is told, as a SessionCall does: whoever hears of the end
  // may destroy this.
  done = [ticket = std::shared_ptr<Admission::Ticket>(*std::move(entered)),
          done = std::move(done)](absl::StatusOr<Resolved> resolved) mutable {
    ticket.reset();
    done(std::move(resolved));
  };
  Decide(request, std::move(session), deadline, nullptr, std::move(done));
}

void RouterCore::Decide(const ParsedRequest& request, SessionRequest session, absl::Time deadline,
                        RouteProbes* probes, std::function<void(absl::StatusOr<Resolved>)> done) {
  session.input.prompt = request.input.prompt;
  session.input.max_prompt_tokens = limits_.max_prompt_tokens;
  session.stop.max_tokens = 0;
  session.queue_deadline =
      std::min({session.queue_deadline, absl::Now() + limits_.max_queue_time, deadline});
  Resolve(request, deadline,
          [this, deadline, probes, policy = request.routing, explain = request.explain_route,
           session = std::move(session),
           done = std::move(done)](absl::StatusOr<Resolved> resolved) mutable {
            if (!resolved.ok()) return done(resolved.status());
            session.routing_layer = resolved->gate->rows().routing_layer();
            const bool explain_rows = explain && session.routing_layer > 0;
            if (!resolved->undecided && !explain_rows) return done(std::move(resolved));
            const auto probe = std::make_shared<RouteProbe>(
                backbone_,
                [this, policy, explain_rows, asked = absl::Now(), resolved = *std::move(resolved),
                 done = std::move(done)](absl::StatusOr<std::vector<float>> pooled) mutable {
                  if (!pooled.ok()) return done(pooled.status());
                  absl::Status status;
                  if (explain_rows) status = ExplainRows(absl::Now() - asked, *pooled, &resolved);
                  if (status.ok() && resolved.undecided)
                    status = Settle(policy, *pooled, &resolved);
                  if (!status.ok()) return done(status);
                  done(std::move(resolved));
                });
            // Known before it starts, and so before its end is told.
            probes_.Add(probe);
            if (probes != nullptr) probes->Add(probe);
            probe->Start(std::move(session), deadline);
          });
}

std::function<void(const absl::Status&)> RouterCore::ResolveSteps(
    const ParsedRequest& request, const SessionRequest& session, absl::Time deadline,
    std::function<void(absl::StatusOr<Resolved>)> done) {
  struct Joined {
    ParsedRequest request;
    std::function<void(absl::StatusOr<Resolved>)> done;
    RouteProbes probes;
    base::Mutex mutex;
    std::vector<Resolved> parts ABSL_GUARDED_BY(mutex);
    absl::Status status ABSL_GUARDED_BY(mutex);  // the first error
    size_t left ABSL_GUARDED_BY(mutex) = 0;
  };
  const auto joined = std::make_shared<Joined>();
  const auto cancel = [joined](const absl::Status& why) { joined->probes.Cancel(why); };
  const std::vector<ParsedRequest> parts = PartsOf(request);
  if (parts.empty()) {
    Resolve(request, deadline, std::move(done));
    return cancel;
  }
  joined->request = request;
  joined->done = std::move(done);
  {
    base::MutexLock lock(&joined->mutex);
    joined->parts.resize(parts.size());
    joined->left = parts.size();
  }
  const auto join = [this, joined, deadline](size_t i, absl::StatusOr<Resolved> part) {
    if (!part.ok()) joined->probes.Cancel(part.status());  // the others are not needed any more
    absl::StatusOr<Resolved> resolved = Resolved();
    {
      base::MutexLock lock(&joined->mutex);
      if (part.ok()) joined->parts[i] = *std::move(part);
      if (joined->status.ok() && !part.ok()) {
        joined->status = AtPart(part.status(), joined->request, i);
      }
      if (--joined->left > 0) return;
      resolved = joined->status.ok() ? JoinParts(joined->request, joined->parts)
                                     : absl::StatusOr<Resolved>(joined->status);
    }
    // What is told holds the request, and that may hold this, to cancel it: it is let go of.
    std::function<void(absl::StatusOr<Resolved>)> told = std::exchange(joined->done, nullptr);
    if (resolved.ok() && resolved->steps.empty()) {  // one domain: no plan
      return Resolve(joined->request, deadline, std::move(told));
    }
    told(std::move(resolved));
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    Decide(parts[i], session, deadline, &joined->probes,
           [join, i](absl::StatusOr<Resolved> part) { join(i, std::move(part)); });
  }
  return cancel;
}

void RouterCore::Join(SessionCall* call) {
  base::MutexLock lock(&mutex_);
  calls_.insert(call);
}

void RouterCore::Leave(SessionCall* call) {
  base::MutexLock lock(&mutex_);
  calls_.erase(call);
}

void RouterCore::CancelAll(const absl::Status& why) {
  std::vector<std::shared_ptr<SessionCall>> calls;
  {
    base::MutexLock lock(&mutex_);
    for (SessionCall* call : calls_) calls.push_back(call->shared_from_this());
  }
  for (const auto& call : calls) call->Cancel(why);
  probes_.Cancel(why);
}

void RouterCore::Resolve(const ParsedRequest& request, absl::Time deadline,
                         std::function<void(absl::StatusOr<Resolved>)> done) {
  absl::StatusOr<std::shared_ptr<const Catalog>> catalog = GetCatalog();
  if (!catalog.ok()) return done(catalog.status());
  const bool automatic = std::holds_alternative<std::monostate>(request.target);
  if (!automatic || request.input.gate_text.has_value()) {
    return done(ResolveNow(request, *std::move(catalog), request.input.gate_text.value_or("")));
  }
  // Token ids: the backbone knows their text.
  backbone_.Tokenize(request.input.prompt, deadline,
                     [this, request, catalog = *std::move(catalog),
                      done = std::move(done)](absl::StatusOr<std::vector<TokenPiece>> pieces) {
                       if (!pieces.ok()) return done(pieces.status());
                       std::string text;
                       for (const TokenPiece& piece : *pieces) text += piece.bytes;
                       done(ResolveNow(request, catalog, text));
                     });
}

}  // namespace ccoe::router
