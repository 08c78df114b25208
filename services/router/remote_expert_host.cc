#include "services/router/remote_expert_host.h"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/telemetry/log.h"
#include "services/router/node_push.h"
#include "services/router/remote_backbone.h"
#include "services/router/validation.h"

namespace ccoe::router {
namespace {

using Package = std::shared_ptr<const model::ExpertPackage>;
using Pushes = std::vector<std::unique_ptr<NodePush>>;

// To send a package and to load it.
constexpr absl::Duration kPushTimeout = absl::Minutes(30);
constexpr absl::Duration kPopTimeout = absl::Seconds(10);

std::set<std::string> Addresses(const Catalog& catalog) {
  std::set<std::string> addresses;
  for (const ExpertProcess& process : catalog.processes) addresses.insert(process.address);
  return addresses;
}

absl::StatusOr<std::vector<std::string>> CheckAsked(const Catalog& catalog,
                                                    const std::vector<std::string>& asked) {
  const std::set<std::string> known = Addresses(catalog);
  std::set<std::string> seen;
  for (const std::string& address : asked) {
    if (!known.contains(address)) {
      return InvalidField("nodes",
                          absl::StrCat(": no expert process ", address,
                                       " is connected; there are: ", absl::StrJoin(known, ", ")));
    }
    if (!seen.insert(address).second) {
      return InvalidField("nodes", absl::StrCat(": ", address, " comes twice"));
    }
  }
  return asked;
}

runtime::ExpertKey KeyOf(const model::ExpertPackage& package) {
  return {package.manifest().name, package.manifest().version};
}

const CatalogEntry* Find(const Catalog& catalog, const runtime::ExpertKey& key) {
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.key == key) return &entry;
  }
  return nullptr;
}

// To all at a time. The first error, in the order of the nodes.
absl::Status SendAll(const model::ExpertPackage& package, NodePush::Purpose purpose,
                     const Pushes& pushes) {
  std::vector<absl::Status> results(pushes.size());
  std::vector<std::thread> threads;
  threads.reserve(pushes.size());
  for (size_t i = 0; i < pushes.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = pushes[i]->Send(package, purpose); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) CCOE_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

// Lets each node give the expert up. The first error, and the longest time that it stays.
absl::StatusOr<absl::Duration> PopAll(
    const runtime::ExpertKey& key, const std::vector<std::string>& nodes,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  absl::Status failed;
  absl::Duration stays;
  for (const std::string& address : nodes) {
    const auto popped = PopAt(address, credentials, key, absl::Now() + kPopTimeout);
    if (popped.ok()) {
      stays = std::max(stays, *popped);
    } else if (!absl::IsNotFound(popped.status()) && failed.ok()) {
      failed = popped.status();
    }
  }
  if (!failed.ok()) return failed;
  return stays;
}

// Takes back what some nodes serve already of a push that fails.
absl::Status GiveUp(const runtime::ExpertKey& key, const std::vector<std::string>& nodes,
                    const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                    absl::Status why) {
  const auto popped = PopAll(key, nodes, credentials);
  if (!popped.ok()) {
    telemetry::LogWarning("push_not_taken_back",
                          {{"expert", key.name},
                           {"version", key.version},
                           {"message", std::string(popped.status().message())}});
  }
  return why;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> NodesFor(const Catalog& catalog,
                                                  const model::ExpertManifest& manifest,
                                                  const std::vector<std::string>& asked) {
  if (!asked.empty()) return CheckAsked(catalog, asked);
  std::set<std::string> nodes;
  const CatalogEntry* served = Find(catalog, {manifest.name, manifest.version});
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.domain != manifest.domain) continue;
    nodes.insert(entry.nodes.begin(), entry.nodes.end());
  }
  if (nodes.empty()) {
    for (const ExpertProcess& process : catalog.processes) {
      if (process.layer_begin <= manifest.attach_depth) nodes.insert(process.address);
    }
  }
  if (nodes.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no expert process that is connected computes the layers from ",
                     manifest.attach_depth, " on; start one with --layer-begin"));
  }
  if (served != nullptr) {
    for (const std::string& address : served->nodes) nodes.erase(address);
    if (nodes.empty()) {
      return absl::AlreadyExistsError(absl::StrCat(
          "expert ", manifest.name, " ", manifest.version,
          " is served already where its domain is; name the nodes that are to have it as well"));
    }
  }
  return std::vector<std::string>(nodes.begin(), nodes.end());
}

absl::StatusOr<CatalogEntry> RemoteExpertHost::Check(const Package& package) const {
  const std::shared_ptr<const Catalog> catalog = backbone_.GetCatalog();
  const model::ExpertManifest& manifest = package->manifest();
  const std::string& digest = manifest.base.digest;
  const ModelDescription& model = catalog->model;
  if ((!digest.empty() && digest != model.digest) || manifest.attach_depth >= model.layers) {
    return base::MakeError(
        base::Reason::kModelMismatch,
        absl::StrCat("expert ", manifest.name, " is for another base model: it pins ", digest,
                     " and attaches at layer ", manifest.attach_depth, "; ", model.name, " is ",
                     model.digest, " with ", model.layers, " layers"));
  }
  const CatalogEntry* served = Find(*catalog, KeyOf(*package));
  if (served != nullptr && served->info.package_digest != package->digest()) {
    return absl::AlreadyExistsError(absl::StrCat("another expert ", manifest.name, " ",
                                                 manifest.version, " is served already"));
  }
  CatalogEntry entry;
  entry.info.key = KeyOf(*package);
  entry.info.domain = manifest.domain;
  entry.info.description = manifest.description;
  entry.info.package_digest = package->digest();
  entry.info.attach_depth = manifest.attach_depth;
  // Shares the package's life.
  entry.manifest = std::shared_ptr<const model::ExpertManifest>(package, &manifest);
  return entry;
}

absl::Status RemoteExpertHost::Push(const Package& package, const PushOptions& options) {
  const runtime::ExpertKey key = KeyOf(*package);
  const std::shared_ptr<const Catalog> before = backbone_.GetCatalog();
  CCOE_ASSIGN_OR_RETURN(const std::vector<std::string> nodes,
                        NodesFor(*before, package->manifest(), options.nodes));
  const absl::Time deadline = absl::Now() + kPushTimeout;
  Pushes pushes;
  pushes.reserve(nodes.size());
  for (const std::string& address : nodes) {
    pushes.push_back(std::make_unique<NodePush>(address, credentials_, deadline));
  }
  if (options.validate_only) return SendAll(*package, NodePush::Purpose::kCheck, pushes);
  CCOE_RETURN_IF_ERROR(SendAll(*package, NodePush::Purpose::kServe, pushes));

  if (Find(*before, key) == nullptr) backbone_.ForgetWeight(key);
  for (const auto& push : pushes) {
    const absl::Status status = push->Commit();
    if (!status.ok()) return GiveUp(key, nodes, credentials_, status);
  }
  const bool told = backbone_.WaitForCatalog(
      [&](const Catalog& catalog) {
        const CatalogEntry* entry = Find(catalog, key);
        return entry != nullptr && entry->info.package_digest == package->digest() &&
               std::all_of(nodes.begin(), nodes.end(), [&](const std::string& address) {
                 return std::count(entry->nodes.begin(), entry->nodes.end(), address) > 0;
               });
      },
      news_timeout_);
  if (told) return absl::OkStatus();
  return GiveUp(key, nodes, credentials_,
                base::MakeError(base::Reason::kBackboneUnavailable,
                                "the backbone did not list the expert in time: it has lost an "
                                "expert process, or is of an older version"));
}

absl::StatusOr<absl::Duration> RemoteExpertHost::Pop(const runtime::ExpertKey& expert) {
  const CatalogEntry* entry = nullptr;
  const std::shared_ptr<const Catalog> catalog = backbone_.GetCatalog();
  CCOE_ASSIGN_OR_RETURN(entry, FindExpert(*catalog, expert));
  if (entry->nodes.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("no expert process that is connected serves ",
                                                      expert.name, " ", expert.version,
                                                      "; what a backbone computes itself stays"));
  }
  CCOE_ASSIGN_OR_RETURN(const absl::Duration stays, PopAll(expert, entry->nodes, credentials_));
  backbone_.ForgetWeight(expert);
  const bool told = backbone_.WaitForCatalog(
      [&](const Catalog& known) {
        const CatalogEntry* left = Find(known, expert);
        return left == nullptr || left->nodes.empty();
      },
      news_timeout_);
  if (told) return stays;
  return base::MakeError(base::Reason::kBackboneUnavailable,
                         "the expert processes gave the expert up, but the backbone lists it "
                         "still: it has come back, or the backbone is of an older version");
}

absl::Status RemoteExpertHost::SetTraffic(const std::string& domain,
                                          absl::Span<const VersionWeight> weights) {
  return backbone_.SetTraffic(domain, weights);
}

}  // namespace ccoe::router
