#include "services/router/route_probe.h"

#include <utility>

#include "common/base/error.h"

namespace ccoe::router {

void RouteProbe::Start(SessionRequest request, absl::Time deadline) {
  self_ = shared_from_this();
  timer_.Set(deadline, self_, &RouteProbe::CancelAtDeadline);
  const absl::StatusOr<runtime::SessionId> session = backbone_.Open(std::move(request), this);
  if (!session.ok()) {
    const std::shared_ptr<RouteProbe> self = std::move(self_);
    return done_(session.status());
  }
  base::MutexLock lock(&mutex_);
  session_ = *session;
  EndSession();
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

void RouteProbes::Add(const std::shared_ptr<RouteProbe>& probe) {
  base::MutexLock lock(&mutex_);
  std::erase_if(probes_, [](const auto& known) { return known.expired(); });
  probes_.push_back(probe);
}

void RouteProbes::Cancel(const absl::Status& why) {
  std::vector<std::weak_ptr<RouteProbe>> probes;
  {
    base::MutexLock lock(&mutex_);
    probes = probes_;
  }
  for (const auto& known : probes) {
    if (const auto probe = known.lock(); probe != nullptr) probe->Cancel(why);
  }
}

}  // namespace ccoe::router
