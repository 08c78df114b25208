#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/gateway/event_loop.h"
#include "services/gateway/exchange.h"

namespace ccoe::gateway {

// Bounds for what clients can make a server keep.
struct HttpLimits {
  int max_connections = 0;       // more are answered 503
  size_t max_body_bytes = 0;     // more: 413
  absl::Duration read_timeout;   // for a request to arrive whole: 408
  absl::Duration idle_timeout;   // of a connection between two requests
  absl::Duration write_timeout;  // for a client to take the next 64 KiB; then it is cut off
};

struct HttpServerOptions {
  std::string listen;  // "HOST:PORT", ":PORT"; port 0 takes a free one
  HttpLimits limits;
  // Answers a request, on the loop's thread.
  std::function<void(std::shared_ptr<Exchange>)> handler;
  // Tells of each answer to a request that never reached the handler, by its status.
  std::function<void(int status)> on_refused;
};

// HTTP/1.1 over TCP, connections kept alive. Thread-safe.
class HttpServer {
 public:
  // `loop` outlives it. INVALID_ARGUMENT for an address that is none; UNAVAILABLE when it cannot be
  // bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(EventLoop& loop,
                                                           HttpServerOptions options);
  // Cuts off what is left.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // As clients dial it, with the port that was bound.
  const std::string& address() const;

  // Takes no new connection, closes those that are idle and the others after their answer. Returns
  // at once.
  void StartDraining();
  // StartDraining, and waits. False when `timeout` passed before the last connection was closed.
  bool Drain(absl::Duration timeout);

 private:
  struct State;
  explicit HttpServer(std::shared_ptr<State> state);
  const std::shared_ptr<State> state_;
};

}  // namespace ccoe::gateway
