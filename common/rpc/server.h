#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class Channel;
class ServerCredentials;
class Service;
}  // namespace grpc

namespace ccoe::rpc {

struct ServerOptions {
  // As CheckListenAddress allows; empty: no port, for InProcessChannel alone.
  std::string listen;
  std::string health_listen;        // as listen, in plaintext; empty: no port of its own for health
  int max_message_bytes = 4 << 20;  // received; -1: no limit
  std::shared_ptr<grpc::ServerCredentials> credentials = nullptr;  // null: plaintext
  // Served until Shutdown; they outlive the server.
  std::vector<grpc::Service*> services;
};

// A gRPC server as every process of ours runs it: the given services, grpc.health.v1 (on its own
// port as well, where asked for), reflection, channelz, keepalive, limits, and an answer to
// requests that are not their method's message (malformed_request.h). Thread-safe.
class Server {
 public:
  // INVALID_ARGUMENT for an address that is none; UNAVAILABLE when one cannot be bound. Health
  // answers SERVING from the start.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  // Cancels what still runs.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // A way to the services that needs no port.
  std::shared_ptr<grpc::Channel> InProcessChannel();

  int port() const;         // 0: none, or a Unix socket
  int health_port() const;  // 0: none, or a Unix socket
  // As clients dial it, with the port that was bound; empty: none.
  const std::string& address() const;
  const std::string& health_address() const;

  // What health answers from now on, for the server as a whole and each of its services.
  enum class Health { kServing, kNotServing };
  void SetHealth(Health health);

  // Takes no new calls, waits for those that run until `timeout` has passed, then cancels them and
  // waits until their handlers are done. The second call does nothing.
  void Shutdown(absl::Duration timeout);

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ccoe::rpc
