#include "services/router/route_probe.h"

#include <utility>

#include "common/base/error.h"

namespace ccoe::router {

std::shared_ptr<RouteProbe> RouteProbe::Start(Backbone& backbone, SessionRequest request,
                                              absl::Time deadline, Done done) {
  const auto probe = std::make_shared<RouteProbe>(backbone, std::move(done));
  probe->self_ = probe;
  probe->timer_.Set(deadline, probe, &RouteProbe::CancelAtDeadline);
  const absl::StatusOr<runtime::SessionId> session = backbone.Open(std::move(request), probe.get());
  if (!session.ok()) {
    probe->self_ = nullptr;
    probe->done_(session.status());
    return probe;
  }
  base::MutexLock lock(&probe->mutex_);
  probe->session_ = *session;
  probe->EndSession();
  return probe;
}

void RouteProbe::Cancel(const absl::Status& why) {
  base::MutexLock lock(&mutex_);
  if (pooled_.has_value() || cancelled_.has_value()) return;
  cancelled_ = why;
  EndSession();
}

void RouteProbe::CancelAtDeadline() {
  Cancel(base::MakeError(base::Reason::kDeadlineExceeded,
                         "the prompt's state was not computed in time"));
}

void RouteProbe::OnRouteState(absl::Span<const float> pooled) {
  base::MutexLock lock(&mutex_);
  pooled_.emplace(pooled.begin(), pooled.end());
  EndSession();
}

// Once there is both a reason and what to end.
void RouteProbe::EndSession() {
  if (!session_.has_value()) return;
  if (pooled_.has_value()) {
    backbone_.Cancel(*session_, absl::CancelledError("the prompt's state was all that was wanted"));
  } else if (cancelled_.has_value()) {
    backbone_.Cancel(*session_, *cancelled_);
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
