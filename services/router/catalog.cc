#include "services/router/catalog.h"

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/error.h"

namespace ccoe::router {
namespace {

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

// Takes the leading run of digits, or of other bytes.
std::string_view TakeRun(std::string_view* text) {
  const bool digits = IsDigit(text->front());
  size_t end = 1;
  while (end < text->size() && IsDigit((*text)[end]) == digits) ++end;
  const std::string_view run = text->substr(0, end);
  text->remove_prefix(end);
  return run;
}

int CompareNumbers(std::string_view a, std::string_view b) {
  a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  return a.compare(b);
}

}  // namespace

int CompareVersions(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    const bool numbers = IsDigit(a.front()) && IsDigit(b.front());
    const std::string_view x = TakeRun(&a);
    const std::string_view y = TakeRun(&b);
    const int order = numbers ? CompareNumbers(x, y) : x.compare(y);
    if (order != 0) return order;
  }
  return static_cast<int>(!a.empty()) - static_cast<int>(!b.empty());
}

bool IsBetter(const CatalogEntry& a, const CatalogEntry& b) {
  if (a.info.healthy != b.info.healthy) return a.info.healthy;
  const int order = CompareVersions(a.info.key.version, b.info.key.version);
  if (order != 0) return order > 0;
  return a.info.key.name < b.info.key.name;
}

std::vector<const CatalogEntry*> DomainPackages(const Catalog& catalog) {
  std::map<std::string, const CatalogEntry*> best;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.manifest == nullptr || entry.info.domain == runtime::kGeneralExpert) continue;
    const CatalogEntry*& known = best[entry.info.domain];
    if (known == nullptr || IsBetter(entry, *known)) known = &entry;
  }
  std::vector<const CatalogEntry*> entries;
  for (const auto& [domain, entry] : best) entries.push_back(entry);
  return entries;
}

absl::StatusOr<const CatalogEntry*> FindDomain(const Catalog& catalog, const std::string& domain) {
  const CatalogEntry* best = nullptr;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.domain != domain) continue;
    if (best == nullptr || IsBetter(entry, *best)) best = &entry;
  }
  if (best != nullptr) return best;
  return base::MakeError(base::Reason::kUnknownDomain,
                         absl::StrCat("no expert serves the domain '", domain, "'"),
                         {.metadata = {{"domain", domain}}, .retry_after = {}});
}

absl::StatusOr<const CatalogEntry*> FindExpert(const Catalog& catalog,
                                               const runtime::ExpertKey& key) {
  const CatalogEntry* best = nullptr;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.key.name != key.name) continue;
    if (!key.version.empty() && entry.info.key.version != key.version) continue;
    if (best == nullptr || IsBetter(entry, *best)) best = &entry;
  }
  if (best != nullptr) return best;
  return base::MakeError(
      base::Reason::kUnknownExpert,
      absl::StrCat("no expert '", key.name, "'",
                   key.version.empty() ? "" : absl::StrCat(" of version '", key.version, "'")),
      {.metadata = {{"expert", key.name}, {"version", key.version}}, .retry_after = {}});
}

}  // namespace ccoe::router
