#include "services/router/key_ring.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/telemetry/log.h"
#include "services/router/api_keys.h"

namespace ccoe::router {
namespace {

constexpr std::chrono::seconds kLookEvery{1};
constexpr absl::string_view kScheme = "Bearer ";

// All zero where there is no file.
struct stat Look(const std::string& path) {
  struct stat now = {};
  if (stat(path.c_str(), &now) != 0) now = {};
  return now;
}

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyRing>> KeyRing::Open(const std::string& path) {
  std::unique_ptr<KeyRing> ring;
  if (path.empty()) return ring;
  ring.reset(new KeyRing(path));
  ring->read_ = Look(path);
  CCOE_ASSIGN_OR_RETURN(const internal::v1::ApiKeys keys, LoadApiKeys(path));
  ring->Take(keys);
  ring->watcher_ = std::thread([ring = ring.get()] { ring->Watch(); });
  return ring;
}

KeyRing::~KeyRing() {
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
    stop_.SignalAll();
  }
  if (watcher_.joinable()) watcher_.join();
}

absl::StatusOr<std::shared_ptr<Caller>> KeyRing::Find(std::string_view authorization) const {
  if (!absl::StartsWithIgnoreCase({authorization.data(), authorization.size()}, kScheme)) {
    return base::MakeError(base::Reason::kApiKeyMissing,
                           "the server asks for a key: send `authorization: Bearer KEY`");
  }
  const std::string hash = HashApiKey(authorization.substr(kScheme.size()));
  std::shared_ptr<Caller> found;
  base::MutexLock lock(&mutex_);
  for (const Entry& entry : entries_) {  // all of them, whichever it is
    if (CRYPTO_memcmp(entry.sha256.data(), hash.data(), hash.size()) == 0) found = entry.caller;
  }
  if (found == nullptr) {
    return base::MakeError(base::Reason::kApiKeyUnknown, "the server does not know this key");
  }
  return found;
}

std::vector<std::shared_ptr<const Caller>> KeyRing::Callers() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<const Caller>> callers;
  callers.reserve(entries_.size());
  for (const Entry& entry : entries_) callers.push_back(entry.caller);
  return callers;
}

void KeyRing::CheckFile() {
  const struct stat now = Look(path_);
  if (SameFile(now, read_)) return;
  read_ = now;  // before it is read: a change meanwhile is one to come
  const absl::StatusOr<internal::v1::ApiKeys> keys = LoadApiKeys(path_);
  if (keys.ok()) {
    Take(*keys);
    telemetry::LogInfo("api_keys_changed", {{"file", path_}, {"keys", keys->keys_size()}});
  } else {
    telemetry::LogWarning("api_keys_kept",
                          {{"file", path_}, {"message", std::string(keys.status().message())}});
  }
}

void KeyRing::Take(const internal::v1::ApiKeys& keys) {
  base::MutexLock lock(&mutex_);
  std::vector<Entry> entries;
  entries.reserve(keys.keys_size());
  for (const internal::v1::ApiKey& key : keys.keys()) {
    const auto known = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.caller->name() == key.name();
    });
    if (known == entries_.end()) {
      entries.push_back({key.sha256(), std::make_shared<Caller>(key)});
    } else {
      known->caller->Update(key);
      entries.push_back({key.sha256(), known->caller});
    }
  }
  entries_ = std::move(entries);
}

void KeyRing::Watch() {
  while (true) {
    {
      base::MutexLock lock(&mutex_);
      if (!stopping_) stop_.WaitFor(&mutex_, kLookEvery);
      if (stopping_) return;
    }
    CheckFile();
  }
}

}  // namespace ccoe::router
