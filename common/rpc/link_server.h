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

// How long sessions may be opened for an expert that is leaving: longer than a router takes to open
// what it has decided by an older catalog.
inline constexpr absl::Duration kExpertLinger = absl::Seconds(15);

struct LinkServerOptions {
  LinkIdentity identity;  // of the expert process
  runtime::Engine* engine = nullptr;
  std::vector<internal::v1::ExpertDescription> experts;  // that are there from the beginning
  // The engine has the base model's layers from here on, so that backbones which end before an
  // expert's attach depth can enter here; 0: it has none.
  int base_begin = 0;
  LinkObserver* observer = nullptr;  // may be null; outlives the server
  // Hidden states that a backbone may have on their way to one expert.
  int64_t credit_bytes = int64_t{16} << 20;
  absl::Duration linger = kExpertLinger;
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
  absl::Duration linger() const;

  // OK when each backbone that is connected can feed an expert, with the engine's base layers as in
  // LinkServerOptions::base_begin; FAILED_PRECONDITION with MODEL_MISMATCH otherwise, UNAVAILABLE
  // while this drains.
  absl::Status CheckFed(const internal::v1::ExpertDescription& expert, int base_begin);
  // Offers one more expert of the engine, which has the base layers from `base_begin` on by now.
  // Errors as of CheckFed; then nothing has changed.
  absl::Status Add(const internal::v1::ExpertDescription& expert, int base_begin);
  // Takes an expert away: backbones list it no more, and it leaves the engine after the linger time
  // with the last session that can need it, or with the last link to a backbone that knows of no
  // such change. NOT_FOUND (UNKNOWN_EXPERT); INVALID_ARGUMENT for `general`.
  absl::Status Pop(const runtime::ExpertKey& expert);

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
