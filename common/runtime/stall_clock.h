#pragma once

#include <map>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace ccoe::runtime {

class RemoteExpert;

// How long rows stood ready for links that had no credit. Thread-compatible.
class StallClock {
 public:
  // `links` are those that rows are ready for now, each with its credit in rows. Returns the time
  // that ended stalls took: of links that have credit again, or that nothing waits for any more.
  absl::Duration Observe(absl::Span<RemoteExpert* const> links, absl::Span<const int> credit,
                         absl::Time now);

 private:
  std::map<RemoteExpert*, absl::Time> since_;
};

}  // namespace ccoe::runtime
