#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ccoe::bench {

// A gRPC server that answers every message of a bidirectional stream with one of a fixed size, and
// knows nothing of the project: the least that a hop can cost with this library.
class PingPongServer {
 public:
  // Listens on a free port of 127.0.0.1. UNAVAILABLE when it cannot.
  static absl::StatusOr<std::unique_ptr<PingPongServer>> Create();
  ~PingPongServer();

  int port() const;

 private:
  struct State;
  explicit PingPongServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Sends `count` messages of `request_bytes` over one stream, each after the answer of `reply_bytes`
// to the one before, and returns how long each took, there and back. UNAVAILABLE when the stream
// breaks.
absl::StatusOr<std::vector<absl::Duration>> PingPong(const std::string& address,
                                                     size_t request_bytes, size_t reply_bytes,
                                                     int count);

}  // namespace ccoe::bench
