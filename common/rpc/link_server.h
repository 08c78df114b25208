#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/link.pb.h"
#include "common/rpc/link_client.h"
#include "common/rpc/link_handshake.h"
#include "common/runtime/engine.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::rpc {

struct LinkServerOptions {
  LinkIdentity identity;  // of the expert process
  runtime::Engine* engine = nullptr;
  std::vector<internal::v1::ExpertDescription> experts;
  // The engine has the base model's layers from here on, so that backbones which end before an
  // expert's attach depth can enter here; 0: it has none.
  int base_begin = 0;
  LinkObserver* observer = nullptr;  // may be null; outlives the server
  // Hidden states that a backbone may have on their way to one expert.
  int64_t credit_bytes = int64_t{16} << 20;
};

// The expert's end of its links: a gRPC service that feeds the rows of any number of backbones to
// one engine and sends its results back. Thread-safe. Lifetime: end the gRPC server, Stop this,
// destroy the engine, destroy this.
class LinkServer {
 public:
  explicit LinkServer(LinkServerOptions options);
  ~LinkServer();
  LinkServer(const LinkServer&) = delete;
  LinkServer& operator=(const LinkServer&) = delete;

  // To be registered with a server.
  grpc::Service* service();
  int sessions() const;

  // Tells the backbones to go away, refuses new links, and waits until no session is left. The
  // engine refuses new sessions on its own. False when some are left after `timeout`.
  bool Drain(absl::Duration timeout);
  // Ends all streams with UNAVAILABLE and waits until the engine has let go of them.
  void Stop();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::rpc
