#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"

namespace ccoe::backbone {

// INVALID_ARGUMENT names the key that is missing or out of its range. Requires a completed server
// and engine part.
absl::Status CheckConfig(const internal::v1::BackboneConfig& config);

// A running backbone process: an engine over the lower layers, links to its experts, and the
// service that routers call.
class BackboneNode {
 public:
  // Loads the model and serves: takes seconds. Links connect in the background.
  static absl::StatusOr<std::unique_ptr<BackboneNode>> Start(
      const internal::v1::BackboneConfig& config);
  ~BackboneNode();

  // One line for standard output: where it listens.
  std::string ReadyLine() const;
  // Refuses new sessions and waits for those that run until the configured time has passed. False
  // when some did not end in time.
  bool Drain();

 private:
  struct State;
  explicit BackboneNode(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::backbone
