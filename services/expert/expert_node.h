#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"

namespace ccoe::expert {

// INVALID_ARGUMENT names the key that is missing or out of its range. Requires a completed server
// and engine part.
absl::Status CheckConfig(const internal::v1::ExpertConfig& config);

// A running expert process: an engine over the upper layers, fed by the links of its backbones.
class ExpertNode {
 public:
  // Loads model and packages and serves: takes seconds.
  static absl::StatusOr<std::unique_ptr<ExpertNode>> Start(
      const internal::v1::ExpertConfig& config);
  ~ExpertNode();

  // One line for standard output: where it listens.
  std::string ReadyLine() const;
  // Refuses new sessions, waits for those that run until the configured time has passed, and ends
  // the links. False when some did not end in time.
  bool Drain();

 private:
  struct State;
  explicit ExpertNode(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace ccoe::expert
