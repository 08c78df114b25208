#include "services/router/catalog.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "services/router/validation.h"

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

std::vector<const CatalogEntry*> ExpertsOf(const Catalog& catalog, const std::string& domain) {
  std::vector<const CatalogEntry*> entries;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.domain == domain) entries.push_back(&entry);
  }
  return entries;
}

std::vector<const CatalogEntry*> ExpertsOf(const Catalog& catalog, const runtime::ExpertKey& key) {
  std::vector<const CatalogEntry*> entries;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.info.key.name != key.name) continue;
    if (key.version.empty() || entry.info.key.version == key.version) entries.push_back(&entry);
  }
  return entries;
}

// Those with a replica, where there are any, the best first.
void KeepUsable(std::vector<const CatalogEntry*>* entries) {
  std::sort(entries->begin(), entries->end(),
            [](const CatalogEntry* a, const CatalogEntry* b) { return IsBetter(*a, *b); });
  if (!entries->front()->info.healthy) return;
  std::erase_if(*entries, [](const CatalogEntry* entry) { return !entry->info.healthy; });
}

int64_t SumOfWeights(const std::vector<const CatalogEntry*>& entries) {
  int64_t sum = 0;
  for (const CatalogEntry* entry : entries) sum += entry->weight;
  return sum;
}

absl::Status UnknownDomain(const std::string& domain) {
  return base::MakeError(base::Reason::kUnknownDomain,
                         absl::StrCat("no expert serves the domain '", domain, "'"),
                         {.metadata = {{"domain", domain}}, .retry_after = {}});
}

absl::Status UnknownExpert(const runtime::ExpertKey& key) {
  return base::MakeError(
      base::Reason::kUnknownExpert,
      absl::StrCat("no expert '", key.name, "'",
                   key.version.empty() ? "" : absl::StrCat(" of version '", key.version, "'")),
      {.metadata = {{"expert", key.name}, {"version", key.version}}, .retry_after = {}});
}

absl::Status UnknownVersion(const std::string& domain, const runtime::ExpertKey& key) {
  return base::MakeError(
      base::Reason::kUnknownExpert,
      absl::StrCat("the domain '", domain, "' has no expert ",
                   key.name.empty() ? "" : absl::StrCat("'", key.name, "' "), "of version '",
                   key.version, "'"),
      {.metadata = {{"expert", key.name}, {"version", key.version}}, .retry_after = {}});
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

uint32_t DrawOf(std::string_view request_id) {
  // FNV-1a, then the finalizer of MurmurHash3: ids that are counted up spread as well.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : request_id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
  return static_cast<uint32_t>(hash >> 32);
}

const CatalogEntry* ChooseVersion(std::vector<const CatalogEntry*> entries, uint32_t draw) {
  KeepUsable(&entries);
  const int64_t sum = SumOfWeights(entries);
  int64_t place = (draw * sum) >> 32;  // in [0, sum): 1024 packages have weights of 2^30 together
  for (const CatalogEntry* entry : entries) {
    if (place < entry->weight) return entry;
    place -= entry->weight;
  }
  return entries.front();
}

double ShareOf(const Catalog& catalog, const CatalogEntry& expert) {
  std::vector<const CatalogEntry*> entries = ExpertsOf(catalog, expert.info.domain);
  KeepUsable(&entries);
  if (std::find(entries.begin(), entries.end(), &expert) == entries.end()) return 0;
  const int64_t sum = SumOfWeights(entries);
  if (sum == 0) return &expert == entries.front() ? 1 : 0;
  return static_cast<double>(expert.weight) / static_cast<double>(sum);
}

absl::Status SetWeights(const std::string& domain, absl::Span<const VersionWeight> weights,
                        Catalog* catalog) {
  const std::vector<const CatalogEntry*> entries = ExpertsOf(*catalog, domain);
  if (entries.empty()) return UnknownDomain(domain);
  std::map<runtime::ExpertKey, int> by_expert;
  int64_t sum = 0;
  for (const VersionWeight& given : weights) {
    const runtime::ExpertKey& key = given.expert;
    if (given.weight < 0 || given.weight > kMaxWeight) {
      return InvalidField("weights",
                          absl::StrCat(": ", given.weight, " is not in [0, ", kMaxWeight, "]"));
    }
    const CatalogEntry* found = nullptr;
    for (const CatalogEntry* entry : entries) {
      if (entry->info.key.version != key.version) continue;
      if (!key.name.empty() && entry->info.key.name != key.name) continue;
      if (found != nullptr) {
        return InvalidField("weights", absl::StrCat(": several experts have the version '",
                                                    key.version, "'; say which"));
      }
      found = entry;
    }
    if (found == nullptr) return UnknownVersion(domain, key);
    if (!by_expert.emplace(found->info.key, given.weight).second) {
      return InvalidField("weights", absl::StrCat(" name the version '", key.version, "' twice"));
    }
    sum += given.weight;
  }
  if (!weights.empty() && sum == 0) return InvalidField("weights", ": none is above 0");
  for (CatalogEntry& entry : catalog->experts) {
    if (entry.info.domain != domain) continue;
    const auto given = by_expert.find(entry.info.key);
    entry.weight = given == by_expert.end() ? 0 : given->second;
  }
  return absl::OkStatus();
}

std::vector<const CatalogEntry*> DomainPackages(const Catalog& catalog) {
  const auto leads = [](const CatalogEntry& a, const CatalogEntry& b) {
    if (a.info.healthy != b.info.healthy || a.weight == b.weight) return IsBetter(a, b);
    return a.weight > b.weight;
  };
  std::map<std::string, const CatalogEntry*> first;
  for (const CatalogEntry& entry : catalog.experts) {
    if (entry.manifest == nullptr || entry.info.domain == runtime::kGeneralExpert) continue;
    const CatalogEntry*& known = first[entry.info.domain];
    if (known == nullptr || leads(entry, *known)) known = &entry;
  }
  std::vector<const CatalogEntry*> entries;
  for (const auto& [domain, entry] : first) entries.push_back(entry);
  return entries;
}

absl::StatusOr<const CatalogEntry*> FindDomain(const Catalog& catalog, const std::string& domain,
                                               uint32_t draw) {
  std::vector<const CatalogEntry*> entries = ExpertsOf(catalog, domain);
  if (entries.empty()) return UnknownDomain(domain);
  return ChooseVersion(std::move(entries), draw);
}

absl::StatusOr<const CatalogEntry*> FindExpert(const Catalog& catalog,
                                               const runtime::ExpertKey& key) {
  std::vector<const CatalogEntry*> entries = ExpertsOf(catalog, key);
  if (entries.empty()) return UnknownExpert(key);
  KeepUsable(&entries);
  return entries.front();
}

absl::StatusOr<const CatalogEntry*> ChooseExpert(const Catalog& catalog,
                                                 const runtime::ExpertKey& key, uint32_t draw) {
  std::vector<const CatalogEntry*> entries = ExpertsOf(catalog, key);
  if (entries.empty()) return UnknownExpert(key);
  return ChooseVersion(std::move(entries), draw);
}

}  // namespace ccoe::router
