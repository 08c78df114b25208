#include "services/router/route_probe.h"

#include <utility>

namespace ccoe::router {

void RouteProbe::Start(Backbone& backbone, SessionRequest request, Done done) {
  const auto probe = std::make_shared<RouteProbe>(backbone, std::move(done));
  probe->self_ = probe;
  const absl::StatusOr<runtime::SessionId> session = backbone.Open(std::move(request), probe.get());
  if (!session.ok()) {
    probe->self_ = nullptr;
    return probe->done_(session.status());
  }
  base::MutexLock lock(&probe->mutex_);
  probe->session_ = *session;
  probe->EndSession();
}

void RouteProbe::OnRouteState(absl::Span<const float> pooled) {
  base::MutexLock lock(&mutex_);
  pooled_.emplace(pooled.begin(), pooled.end());
  EndSession();
}

// Once there is both what was wanted and what to end.
void RouteProbe::EndSession() {
  if (session_.has_value() && pooled_.has_value()) {
    backbone_.Cancel(*session_, absl::CancelledError("the prompt's state was all that was wanted"));
  }
}

void RouteProbe::OnFinished(const runtime::Finished& /*finished*/) {
  OnFailed(absl::InternalError("an undecided session finished"));
}

void RouteProbe::OnFailed(const absl::Status& status) {
  const std::shared_ptr<RouteProbe> self = std::move(self_);
  absl::StatusOr<std::vector<float>> result = status;
  {
    base::MutexLock lock(&mutex_);
    if (pooled_.has_value()) result = *std::move(pooled_);
  }
  done_(std::move(result));
}

}  // namespace ccoe::router
