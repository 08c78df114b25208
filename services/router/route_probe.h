#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// A session that runs for its prompt's pooled state alone and is cancelled once that is there.
class RouteProbe final : public runtime::SessionListener {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<float>>)>;

  // Calls `done` once, on any thread, perhaps before it returns. `request` names no expert;
  // `backbone` outlives the call.
  static void Start(Backbone& backbone, SessionRequest request, Done done);

  RouteProbe(Backbone& backbone, Done done) : backbone_(backbone), done_(std::move(done)) {}

 private:
  void OnRouteState(absl::Span<const float> pooled) override;
  void OnAdmitted() override {}
  void OnDelta(const runtime::Delta& /*delta*/) override {}
  void OnFinished(const runtime::Finished& finished) override;
  void OnFailed(const absl::Status& status) override;

  void EndSession() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Backbone& backbone_;
  const Done done_;
  std::shared_ptr<RouteProbe> self_;  // until the session's end

  base::Mutex mutex_;
  std::optional<runtime::SessionId> session_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::vector<float>> pooled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::router
