#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"

namespace ccoe::gateway {

// INVALID_ARGUMENT names the key that is missing or wrong. Requires completed parts.
absl::Status CheckConfig(const internal::v1::GatewayConfig& config);

// A running gateway process, in front of a router in another one.
class GatewayNode {
 public:
  // Serves. The router need not be there yet.
  static absl::StatusOr<std::unique_ptr<GatewayNode>> Start(
      const internal::v1::GatewayConfig& config);
  ~GatewayNode();

  // One line for standard output: where it listens.
  std::string ReadyLine() const;
  // Takes no new connection and waits for the answers under way until the configured time has
  // passed. False when some did not end in time.
  bool Drain();

 private:
  struct State;
  explicit GatewayNode(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::gateway
