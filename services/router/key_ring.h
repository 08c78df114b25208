#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "services/router/caller.h"

namespace ccoe::router {

// Knows callers by their keys. It follows the keys file: each second a thread of its own looks
// whether that has changed. A file that cannot be read or is wrong leaves the keys as they were and
// is worth a warning in the log. Thread-safe.
class KeyRing {
 public:
  // Null for an empty path: no key is asked for. Errors as of LoadApiKeys.
  static absl::StatusOr<std::unique_ptr<KeyRing>> Open(const std::string& path);
  ~KeyRing();
  KeyRing(const KeyRing&) = delete;
  KeyRing& operator=(const KeyRing&) = delete;

  // Whose key a call's metadata `authorization` shows. UNAUTHENTICATED: API_KEY_MISSING unless it
  // is "Bearer KEY", API_KEY_UNKNOWN. The time does not tell how much of a key was right.
  absl::StatusOr<std::shared_ptr<Caller>> Find(std::string_view authorization) const;
  // In the order of the file.
  std::vector<std::shared_ptr<const Caller>> Callers() const;

  // Reads the file if it is another than the one that was read last. For the ring's own thread.
  void CheckFile();

 private:
  struct Entry {
    std::string sha256;
    std::shared_ptr<Caller> caller;
  };

  explicit KeyRing(std::string path) : path_(std::move(path)) {}
  void Take(const internal::v1::ApiKeys& keys);
  void Watch();

  const std::string path_;
  struct stat read_ = {};  // of the file that was read; the watching thread's alone

  mutable base::Mutex mutex_;
  base::CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::thread watcher_;
};

}  // namespace ccoe::router
