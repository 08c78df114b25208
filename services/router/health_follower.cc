#include "services/router/health_follower.h"

#include <chrono>

namespace ccoe::router {
namespace {

// How long health may lag behind.
constexpr std::chrono::milliseconds kInterval{200};

}  // namespace

HealthFollower::HealthFollower(const Backbone& backbone, rpc::Server& server)
    : backbone_(backbone), server_(server), thread_([this] { Run(); }) {}

HealthFollower::~HealthFollower() {
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
    stopped_.SignalAll();
  }
  thread_.join();
}

void HealthFollower::Run() {
  bool serving = true;  // what a server says from its start
  base::MutexLock lock(&mutex_);
  while (!stopping_) {
    if (backbone_.Health().ok() != serving) {
      serving = !serving;
      server_.SetHealth(serving ? rpc::Server::Health::kServing : rpc::Server::Health::kNotServing);
    }
    stopped_.WaitFor(&mutex_, kInterval);
  }
}

}  // namespace ccoe::router
