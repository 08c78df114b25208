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

// A session that runs for its prompt's pooled state alone and is cancelled once that is there.
class RouteProbe final : public runtime::SessionListener {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<float>>)>;

  // Calls `done` once, on any thread, perhaps before it returns; at `deadline` with
  // DEADLINE_EXCEEDED. `request` names no expert; `backbone` outlives the call.
  static std::shared_ptr<RouteProbe> Start(Backbone& backbone, SessionRequest request,
                                           absl::Time deadline, Done done);

  RouteProbe(Backbone& backbone, Done done) : backbone_(backbone), done_(std::move(done)) {}

  // Ends it with `why`, unless the state is there.
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

}  // namespace ccoe::router
