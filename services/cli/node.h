#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"

namespace ccoe::model {
class ExpertPackage;
class Model;
}  // namespace ccoe::model

namespace grpc {
class Channel;
}  // namespace grpc

namespace ccoe::cli {

// Sets what is unset in the configuration of `ccoe serve`, and checks it. INVALID_ARGUMENT names
// the key.
absl::Status CompleteServeConfig(internal::v1::ServeConfig* config);

// Everything in one process: a model with all its layers, its experts, and the public services in
// front of them. Thread-safe.
class Node {
 public:
  struct Options {
    internal::v1::ServeConfig config;      // completed; an empty listen address: no port at all
    std::function<void(double)> progress;  // the part of the model that is loaded, in [0, 1]
    // Null: config.engine.model is loaded.
    std::shared_ptr<const model::Model> model = nullptr;
    // Served beside those of config.experts; may be null.
    std::shared_ptr<const model::ExpertPackage> package = nullptr;
  };

  // Loads the model and the experts, and serves. Errors as of model::Model::Load,
  // rpc::LoadExperts, router::LocalBackbone::Create and rpc::Server::Start.
  static absl::StatusOr<std::unique_ptr<Node>> Start(const Options& options);
  // Cancels what still runs.
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // A way to the services that needs no port.
  std::shared_ptr<grpc::Channel> InProcessChannel();
  // Of the main port, as clients write it; empty: none.
  const std::string& address() const;
  // Of the HTTP API; empty: none.
  std::string http_address() const;
  // One line for standard output: where it listens.
  std::string ReadyLine() const;
  // Expert names with their versions, for people.
  std::string DescribeExperts() const;

  // Refuses what is new, finishes what runs, and stops serving. False when not all was finished in
  // the configured time.
  bool Drain();

 private:
  struct State;
  explicit Node(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ccoe::cli
