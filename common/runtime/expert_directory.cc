#include "common/runtime/expert_directory.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"

namespace ccoe::runtime {

absl::Status ExpertDirectory::CheckNew(const ExpertKey& key) const {
  base::MutexLock lock(&mutex_);
  return CheckNewLocked(key);
}

absl::Status ExpertDirectory::CheckNewLocked(const ExpertKey& key) const {
  if (FindExact(key) == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("expert ", key.name, " version ", key.version,
                                               " is served already, or is still leaving"));
}

absl::Status ExpertDirectory::AddLocal(ExpertEntry entry) {
  base::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(CheckNewLocked(entry.info.key));
  entry.local = true;
  listed_.push_back({std::make_shared<const ExpertEntry>(std::move(entry)), {}, 0});
  return absl::OkStatus();
}

absl::Status ExpertDirectory::RemoveLocal(const ExpertKey& key) {
  std::shared_ptr<const ExpertEntry> removed;  // goes after the lock
  base::MutexLock lock(&mutex_);
  for (auto listed = listed_.begin(); listed != listed_.end(); ++listed) {
    const ExpertEntry& entry = *listed->entry;
    if (entry.info.key != key) continue;
    if (!entry.local || entry.IsBase()) {
      return absl::InvalidArgumentError(
          absl::StrCat("expert ", key.name, " is no package of this process"));
    }
    removed = std::move(listed->entry);
    listed_.erase(listed);
    return absl::OkStatus();
  }
  return base::MakeError(base::Reason::kUnknownExpert,
                         absl::StrCat("no expert ", key.name, " version ", key.version));
}

absl::Status ExpertDirectory::AddReplica(const ExpertInfo& expert, RemoteExpert* replica) {
  auto entry = std::make_shared<ExpertEntry>();
  entry->info = expert;
  base::MutexLock lock(&mutex_);
  for (Listed& listed : listed_) {
    const ExpertInfo& info = listed.entry->info;
    if (info.key != expert.key) continue;
    const bool same = !listed.entry->local && info.package_digest == expert.package_digest &&
                      info.attach_depth == expert.attach_depth;
    if (!same && Usable(listed)) {
      return absl::AlreadyExistsError(
          absl::StrCat("expert ", expert.key.name, " version ", expert.key.version,
                       " is listed with other contents; give the package another version"));
    }
    if (!same) listed.entry = std::move(entry);
    listed.replicas.push_back(replica);
    return absl::OkStatus();
  }
  listed_.push_back({std::move(entry), {replica}, 0});
  return absl::OkStatus();
}

void ExpertDirectory::RemoveReplica(RemoteExpert* replica) {
  base::MutexLock lock(&mutex_);
  for (Listed& listed : listed_) std::erase(listed.replicas, replica);
  std::erase_if(retired_, [&](const Retired& retired) { return retired.replica == replica; });
}

void ExpertDirectory::RetireReplica(RemoteExpert* replica) {
  std::shared_ptr<const ExpertEntry> removed;  // goes after the lock
  base::MutexLock lock(&mutex_);
  for (Listed& listed : listed_) {
    if (std::erase(listed.replicas, replica) > 0 && listed.replicas.empty()) removed = listed.entry;
  }
  std::erase_if(listed_, [&](const Listed& listed) { return listed.entry == removed; });
  retired_.push_back({replica, removed});
}

std::vector<RemoteExpert*> ExpertDirectory::TakeForgotten(
    const std::function<bool(RemoteExpert*)>& in_use) {
  std::vector<RemoteExpert*> forgotten;
  base::MutexLock lock(&mutex_);
  std::erase_if(retired_, [&](const Retired& retired) {
    const bool gone = retired.entry.expired() && !in_use(retired.replica);
    if (gone) forgotten.push_back(retired.replica);
    return gone;
  });
  return forgotten;
}

absl::StatusOr<std::shared_ptr<const ExpertEntry>> ExpertDirectory::Find(
    const ExpertKey& key) const {
  base::MutexLock lock(&mutex_);
  std::shared_ptr<const ExpertEntry> unusable;
  for (auto it = listed_.rbegin(); it != listed_.rend(); ++it) {
    const ExpertKey& candidate = it->entry->info.key;
    if (candidate.name != key.name) continue;
    if (!key.version.empty() && candidate.version != key.version) continue;
    if (Usable(*it)) return it->entry;
    unusable = it->entry;
  }
  if (unusable != nullptr) return unusable;
  return base::MakeError(
      base::Reason::kUnknownExpert,
      absl::StrCat("no expert ", key.name, key.version.empty() ? "" : " version ", key.version,
                   "; list the experts to see those served"));
}

RemoteExpert* ExpertDirectory::PickReplica(const ExpertEntry& entry,
                                           absl::Span<RemoteExpert* const> except) {
  base::MutexLock lock(&mutex_);
  for (Listed& listed : listed_) {
    if (listed.entry.get() != &entry) continue;
    for (size_t tried = 0; tried < listed.replicas.size(); ++tried) {
      RemoteExpert* replica = listed.replicas[listed.next++ % listed.replicas.size()];
      if (std::find(except.begin(), except.end(), replica) == except.end()) return replica;
    }
  }
  for (const Retired& retired : retired_) {
    if (retired.entry.lock().get() != &entry) continue;
    if (std::find(except.begin(), except.end(), retired.replica) == except.end()) {
      return retired.replica;
    }
  }
  return nullptr;
}

bool ExpertDirectory::Healthy(const ExpertEntry& entry) const {
  base::MutexLock lock(&mutex_);
  return std::any_of(listed_.begin(), listed_.end(),
                     [&](const Listed& listed) {
                       return listed.entry.get() == &entry && Usable(listed);
                     }) ||
         std::any_of(retired_.begin(), retired_.end(),
                     [&](const Retired& retired) { return retired.entry.lock().get() == &entry; });
}

int ExpertDirectory::SharedDepth(int layers) const {
  base::MutexLock lock(&mutex_);
  for (const Listed& listed : listed_) {
    if (Usable(listed) && !listed.entry->IsBase()) {
      layers = std::min(layers, listed.entry->info.attach_depth);
    }
  }
  return layers;
}

std::vector<int> ExpertDirectory::Depths() const {
  base::MutexLock lock(&mutex_);
  std::set<int> depths;
  for (const Listed& listed : listed_) {
    if (Usable(listed) && !listed.entry->IsBase()) depths.insert(listed.entry->info.attach_depth);
  }
  return {depths.begin(), depths.end()};
}

std::vector<ExpertInfo> ExpertDirectory::List() const {
  base::MutexLock lock(&mutex_);
  std::vector<ExpertInfo> infos;
  for (const Listed& listed : listed_) {
    infos.push_back(listed.entry->info);
    infos.back().healthy = Usable(listed);
  }
  return infos;
}

std::vector<std::shared_ptr<const ExpertEntry>> ExpertDirectory::Remote() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<const ExpertEntry>> entries;
  for (const Listed& listed : listed_) {
    if (!listed.entry->local) entries.push_back(listed.entry);
  }
  return entries;
}

bool ExpertDirectory::HasRemote() const {
  base::MutexLock lock(&mutex_);
  return std::any_of(listed_.begin(), listed_.end(),
                     [](const Listed& listed) { return !listed.entry->local; });
}

size_t ExpertDirectory::WeightBytes() const {
  base::MutexLock lock(&mutex_);
  size_t bytes = 0;
  for (const Listed& listed : listed_) {
    if (listed.entry->weights != nullptr) bytes += BytesOf(*listed.entry->weights);
  }
  return bytes;
}

const ExpertDirectory::Listed* ExpertDirectory::FindExact(const ExpertKey& key) const {
  for (const Listed& listed : listed_) {
    if (listed.entry->info.key == key) return &listed;
  }
  return nullptr;
}

}  // namespace ccoe::runtime
