#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "services/router/backbone.h"
#include "services/router/call_timer.h"

namespace ccoe::router {

// A session that runs for its prompt's pooled state alone and is cancelled once that is there. Held
// by a shared_ptr.
class RouteProbe final : public runtime::SessionListener,
                         public std::enable_shared_from_this<RouteProbe> {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<float>>)>;

  // `backbone` outlives the call.
  RouteProbe(Backbone& backbone, Done done) : backbone_(backbone), done_(std::move(done)) {}

  // Once: `done` is called once from here on, on any thread, perhaps before this returns; at
  // `deadline` with DEADLINE_EXCEEDED. `request` names no expert.
  void Start(SessionRequest request, absl::Time deadline);
  // Ends it with `why`, unless the state is there; before its start: as soon as it starts.
  void Cancel(const absl::Status& why);

 private:
  void OnRouteState(absl::Span<const float> pooled) override;
  void OnAdmitted() override {}
  void OnDelta(const runtime::Delta& /*delta*/) override {}
  void OnFinished(const runtime::Finished& finished) override;
  void OnFailed(const absl::Status& status) override;

  void CancelAtDeadline();
  void EndSession() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Backbone& backbone_;
  const Done done_;
  std::shared_ptr<RouteProbe> self_;  // until the session's end
  CallTimer timer_;

  base::Mutex mutex_;
  std::optional<runtime::SessionId> session_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::vector<float>> pooled_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> cancelled_ ABSL_GUARDED_BY(mutex_);
};

// The probes of a request, or of a router. Thread-safe.
class RouteProbes {
 public:
  void Add(const std::shared_ptr<RouteProbe>& probe);
  // Ends those that are there.
  void Cancel(const absl::Status& why);

 private:
  base::Mutex mutex_;
  std::vector<std::weak_ptr<RouteProbe>> probes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::router
