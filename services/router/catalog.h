#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// Orders versions: runs of digits by their value, everything else by its bytes; "1.10" comes after
// "1.9". Negative, zero or positive.
int CompareVersions(std::string_view a, std::string_view b);

// Which of two experts of one domain, or of one name, a request gets that does not name a version:
// one with a replica before one without, then the higher version, then the lower name.
bool IsBetter(const CatalogEntry& a, const CatalogEntry& b);

// The package that answers for each domain but `general`, by domain: their gate rules and rows
// count.
std::vector<const CatalogEntry*> DomainPackages(const Catalog& catalog);

// The expert that answers for a domain. NOT_FOUND (UNKNOWN_DOMAIN) when none does.
absl::StatusOr<const CatalogEntry*> FindDomain(const Catalog& catalog, const std::string& domain);

// The expert by name and version; an empty version leaves the choice. NOT_FOUND (UNKNOWN_EXPERT).
absl::StatusOr<const CatalogEntry*> FindExpert(const Catalog& catalog,
                                               const runtime::ExpertKey& key);

}  // namespace ccoe::router
