#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/base/mutex.h"
#include "common/runtime/session.h"
#include "services/router/token_bucket.h"

namespace ccoe::router {

// Who shows a key: what it is granted, and what it has of that. It lasts through changes of the
// keys file that keep its name. Held by a shared_ptr. Thread-safe.
class Caller : public std::enable_shared_from_this<Caller> {
 public:
  explicit Caller(const internal::v1::ApiKey& key) : name_(key.name()), key_(key) {}

  const std::string& name() const { return name_; }
  runtime::Flow flow() const;
  // What its sessions share the prefix cache by: its own, or its group's.
  std::string cache_salt() const;
  // What it is granted from now on.
  void Update(const internal::v1::ApiKey& key);

  // Counts a request among those under way until the last copy is gone. RESOURCE_EXHAUSTED with
  // the time after which to come back: KEY_CONCURRENCY, KEY_TOKENS.
  absl::StatusOr<std::shared_ptr<const void>> Enter(absl::Time now);
  // What a request has used. May overdraw what is granted; then Enter refuses.
  void Charge(int64_t tokens, absl::Time now);

  int active() const;      // requests under way
  int64_t tokens() const;  // charged so far

 private:
  void Leave();

  const std::string name_;
  mutable base::Mutex mutex_;
  internal::v1::ApiKey key_ ABSL_GUARDED_BY(mutex_);
  TokenBucket bucket_ ABSL_GUARDED_BY(mutex_);
  int active_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::router
