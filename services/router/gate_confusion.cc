#include "services/router/gate_confusion.h"

#include <future>
#include <map>
#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "services/router/catalog.h"
#include "services/router/gate.h"
#include "services/router/route_probe.h"
#include "services/router/router_core.h"

namespace ccoe::router {
namespace {

// The domain that a prompt without a target goes to; nullopt where its state cannot be had.
std::optional<std::string> DomainOf(const Catalog& catalog, const Gate& gate,
                                    const std::string& prompt, const StateOf& state) {
  const auto by_rules = DecideRoute(catalog, gate, Target(), RoutingPolicy(), prompt);
  if (!by_rules.ok()) return std::nullopt;
  if (by_rules->has_value()) return (*by_rules)->domain;
  const auto pooled = state(prompt, gate.rows().routing_layer());
  if (!pooled.has_value()) return std::nullopt;
  const auto by_state = DecideRouteByState(catalog, gate, RoutingPolicy(), *pooled);
  if (!by_state.ok()) return std::nullopt;
  return by_state->domain;
}

// As `state`, but asks it once for what both gates want to know.
StateOf Remembered(const StateOf& state) {
  using Key = std::pair<std::string, int>;
  auto known = std::make_shared<std::map<Key, std::optional<std::vector<float>>>>();
  return [state, known](const std::string& prompt, int layer) {
    const auto [it, is_new] = known->try_emplace({prompt, layer});
    if (is_new) it->second = state(prompt, layer);
    return it->second;
  };
}

}  // namespace

std::vector<GateConfusion> CompareGates(const Catalog& catalog, const CatalogEntry& added,
                                        const StateOf& state) {
  std::map<std::string, std::set<std::string>> prompts;  // by domain
  const auto collect = [&](const CatalogEntry& entry) {
    std::set<std::string>& known = prompts[entry.info.domain];
    for (const auto& example : entry.manifest->examples) known.insert(example.prompt);
  };
  for (const CatalogEntry* entry : DomainPackages(catalog)) collect(*entry);
  collect(added);
  Catalog with = catalog;
  with.experts.push_back(added);
  const Gate gate_before(catalog), gate_with(with);
  const StateOf remembered = Remembered(state);
  std::vector<GateConfusion> result;
  for (const auto& [domain, examples] : prompts) {
    GateConfusion& confusion = result.emplace_back();
    confusion.domain = domain;
    for (const std::string& prompt : examples) {
      const auto before = DomainOf(catalog, gate_before, prompt, remembered);
      const auto after = DomainOf(with, gate_with, prompt, remembered);
      if (!before.has_value() || !after.has_value()) continue;
      ++confusion.prompts;
      confusion.moved += *before != *after;
      confusion.own += *after == domain;
    }
  }
  return result;
}

StateOf StatesFrom(Backbone& backbone, absl::Time deadline) {
  return [&backbone, deadline](const std::string& prompt,
                               int routing_layer) -> std::optional<std::vector<float>> {
    SessionRequest request;
    request.request_id = "gate-confusion";
    request.input.prompt = std::vector<model::Message>{{"user", prompt}};
    request.routing_layer = routing_layer;
    request.stop.max_tokens = 0;
    request.queue_deadline = deadline;
    // Shared: the probe may still be setting it when the wait ends.
    const auto pooled = std::make_shared<std::promise<absl::StatusOr<std::vector<float>>>>();
    const auto probe = std::make_shared<RouteProbe>(
        backbone,
        [pooled](absl::StatusOr<std::vector<float>> p) { pooled->set_value(std::move(p)); });
    probe->Start(std::move(request), deadline);
    absl::StatusOr<std::vector<float>> result = pooled->get_future().get();
    if (!result.ok()) return std::nullopt;
    return *std::move(result);
  };
}

}  // namespace ccoe::router
