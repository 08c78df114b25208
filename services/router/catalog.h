#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// Orders versions: runs of digits by their value, everything else by its bytes; "1.10" comes after
// "1.9". Negative, zero or positive.
int CompareVersions(std::string_view a, std::string_view b);

// Which of two experts comes first, where nothing but the catalog's order decides: one with a
// replica before one without, then the higher version, then the lower name.
bool IsBetter(const CatalogEntry& a, const CatalogEntry& b);

inline constexpr int kMaxWeight = 1'000'000;

// Where a request stands among all that shares are cut from: uniform over the request ids, and the
// same in every process.
uint32_t DrawOf(std::string_view request_id);

// Which of several experts a request gets that leaves the choice: of those with a replica, where
// there are any, each has a part of all draws in proportion to its weight; where no weight is set
// the best (IsBetter) has them all. A part that grows keeps the draws that it had, if it is the
// best's or there are two. A pure function. `entries` is not empty.
const CatalogEntry* ChooseVersion(std::vector<const CatalogEntry*> entries, uint32_t draw);

// What part of its domain's requests goes to an expert of the catalog, in [0, 1].
double ShareOf(const Catalog& catalog, const CatalogEntry& expert);

// An expert of a domain and its weight.
struct VersionWeight {
  runtime::ExpertKey expert;  // without a name: whatever the domain's expert of that version is
  int weight = 0;             // in [0, kMaxWeight]
};

// Gives the experts of a domain these weights, and those that are not named none; without any, no
// weight is left. NOT_FOUND (UNKNOWN_DOMAIN, UNKNOWN_EXPERT); INVALID_ARGUMENT: a weight out of its
// range, no weight above 0, an expert that is named twice, a version that two experts have. Then
// nothing has changed.
absl::Status SetWeights(const std::string& domain, absl::Span<const VersionWeight> weights,
                        Catalog* catalog);

// The package whose gate rules and row count for each domain but `general`, by domain: that with
// the largest weight, the best of those.
std::vector<const CatalogEntry*> DomainPackages(const Catalog& catalog);

// The expert that answers for a domain. NOT_FOUND (UNKNOWN_DOMAIN) when none does.
absl::StatusOr<const CatalogEntry*> FindDomain(const Catalog& catalog, const std::string& domain,
                                               uint32_t draw);

// The expert by name and version; without a version the best. NOT_FOUND (UNKNOWN_EXPERT).
absl::StatusOr<const CatalogEntry*> FindExpert(const Catalog& catalog,
                                               const runtime::ExpertKey& key);
// As FindExpert; without a version ChooseVersion.
absl::StatusOr<const CatalogEntry*> ChooseExpert(const Catalog& catalog,
                                                 const runtime::ExpertKey& key, uint32_t draw);

}  // namespace ccoe::router
