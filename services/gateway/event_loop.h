#pragma once

#include <functional>
#include <memory>
#include <thread>

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace ccoe::gateway {

// One thread that runs what is posted to it, and the sockets' handlers. What belongs to the loop is
// touched by that thread alone, so it needs no locks.
class EventLoop {
 public:
  EventLoop();
  // Runs what is left, waits until the last Hold is gone, and ends the thread.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Keeps the loop running while it lives: for what will be posted from another thread.
  class Hold {
   public:
    explicit Hold(EventLoop& loop);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    struct Guard;
    const std::unique_ptr<Guard> guard_;
  };

  // Thread-safe.
  void Post(std::function<void()> task);
  boost::asio::io_context& context() { return *context_; }

 private:
  const std::unique_ptr<boost::asio::io_context> context_;
  std::unique_ptr<Hold> hold_;
  std::thread thread_;
};

}  // namespace ccoe::gateway
