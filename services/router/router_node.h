#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"

namespace ccoe::router {

// INVALID_ARGUMENT names the key that is missing or wrong. Requires a completed server part.
absl::Status CheckConfig(const internal::v1::RouterConfig& config);

// A running router process: the public services over a backbone in another process.
class RouterNode {
 public:
  // Serves. A backbone that is not there yet is waited for a few seconds, then in the background.
  static absl::StatusOr<std::unique_ptr<RouterNode>> Start(
      const internal::v1::RouterConfig& config);
  ~RouterNode();

  // One line for standard output: where it listens.
  std::string ReadyLine() const;
  // Refuses new requests and waits for those that run until the configured time has passed. False
  // when some did not end in time.
  bool Drain();

 private:
  struct State;
  explicit RouterNode(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::router
