#pragma once

#include <thread>

#include "common/base/mutex.h"
#include "common/rpc/server.h"
#include "services/router/backbone.h"

namespace ccoe::router {

// Lets a server's health be its backbone's, from construction to destruction. Both outlive it.
class HealthFollower {
 public:
  HealthFollower(const Backbone& backbone, rpc::Server& server);
  ~HealthFollower();
  HealthFollower(const HealthFollower&) = delete;
  HealthFollower& operator=(const HealthFollower&) = delete;

 private:
  void Run();

  const Backbone& backbone_;
  rpc::Server& server_;
  base::Mutex mutex_;
  base::CondVar stopped_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ccoe::router
