#include "services/router/caller.h"

#include "absl/strings/str_cat.h"
#include "common/base/error.h"

namespace ccoe::router {
namespace {

// What clients are told to wait after KEY_CONCURRENCY: about the time of a short answer.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

runtime::Flow Caller::flow() const {
  base::MutexLock lock(&mutex_);
  return {name_, key_.has_weight() ? key_.weight() : 1};
}

std::string Caller::cache_salt() const {
  base::MutexLock lock(&mutex_);
  return key_.cache_group().empty() ? absl::StrCat("key/", key_.sha256())
                                    : absl::StrCat("group/", key_.cache_group());
}

void Caller::Update(const internal::v1::ApiKey& key) {
  base::MutexLock lock(&mutex_);
  key_ = key;
}

absl::StatusOr<std::shared_ptr<const void>> Caller::Enter(absl::Time now) {
  base::MutexLock lock(&mutex_);
  if (const int most = key_.max_concurrent_requests(); most > 0 && active_ >= most) {
    return base::MakeError(
        base::Reason::kKeyConcurrency,
        absl::StrCat(active_, " requests of key ", name_, " are under way, as many as it may have"),
        {.metadata = {{"key", name_}, {"max_concurrent_requests", absl::StrCat(most)}},
         .retry_after = kRetryAfter});
  }
  const absl::Duration wait = bucket_.Wait(now);
  if (key_.tokens_per_minute() > 0 && wait > absl::ZeroDuration()) {
    return base::MakeError(
        base::Reason::kKeyTokens,
        absl::StrCat("key ", name_, " has used its ", key_.tokens_per_minute(),
                     " tokens per minute"),
        {.metadata = {{"key", name_},
                      {"tokens_per_minute", absl::StrCat(key_.tokens_per_minute())}},
         .retry_after = wait});
  }
  ++active_;
  return std::shared_ptr<const void>(this,
                                     [self = shared_from_this()](const void*) { self->Leave(); });
}

void Caller::Charge(int64_t tokens, absl::Time now) {
  base::MutexLock lock(&mutex_);
  tokens_ += tokens;
  if (key_.tokens_per_minute() > 0) bucket_.Take(tokens, key_.tokens_per_minute(), now);
}

int Caller::active() const {
  base::MutexLock lock(&mutex_);
  return active_;
}

int64_t Caller::tokens() const {
  base::MutexLock lock(&mutex_);
  return tokens_;
}

void Caller::Leave() {
  base::MutexLock lock(&mutex_);
  --active_;
}

}  // namespace ccoe::router
