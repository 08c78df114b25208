#include "services/gateway/event_loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace ccoe::gateway {

namespace net = boost::asio;

struct EventLoop::Hold::Guard {
  net::executor_work_guard<net::io_context::executor_type> guard;
};

EventLoop::Hold::Hold(EventLoop& loop) : guard_(new Guard{net::make_work_guard(loop.context())}) {}
EventLoop::Hold::~Hold() = default;

EventLoop::EventLoop()
    : context_(std::make_unique<net::io_context>(/*concurrency_hint=*/1)),
      hold_(std::make_unique<Hold>(*this)),
      thread_([this] { context_->run(); }) {}

EventLoop::~EventLoop() {
  hold_.reset();
  thread_.join();
}

void EventLoop::Post(std::function<void()> task) { net::post(*context_, std::move(task)); }

}  // namespace ccoe::gateway
