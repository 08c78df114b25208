#pragma once

#include <grpcpp/security/credentials.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/link.pb.h"
#include "common/rpc/link_handshake.h"
#include "common/runtime/engine.h"

namespace ccoe::rpc {

// What a link does, for metrics and logs. Called on the engine's and on gRPC's threads; must not
// block.
class LinkObserver {
 public:
  virtual ~LinkObserver() = default;
  virtual void OnHiddenStatesSent(size_t bytes) = 0;
  virtual void OnHiddenStatesReceived(size_t bytes) = 0;
  // Time of rows and their results on the way, both directions together: the expert's own time is
  // taken off.
  virtual void OnRoundTrip(absl::Duration on_the_way) = 0;
  // The state of the link to `address` changed. OK: the handshake has succeeded.
  virtual void OnLinkChanged(const std::string& address, const absl::Status& state) = 0;
  // An expert came to the process at `address`, or is leaving it.
  virtual void OnExpertsChanged(const std::string& address) = 0;
};

struct LinkClientOptions {
  std::string address;  // of the expert process, "host:port"
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;  // null: plaintext
  LinkIdentity identity;                                            // of the backbone
  runtime::Engine* engine = nullptr;
  LinkObserver* observer = nullptr;  // may be null; outlives the client
  absl::Duration handshake_timeout = absl::Seconds(10);
  absl::Duration min_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(5);
};

// The backbone's end of the link to one expert process, which may serve several experts. Connects,
// shakes hands, adds the experts to the engine as replicas, and carries rows and results; experts
// that come and go while it is connected do so in the engine, too. When the
// stream is lost the engine moves or fails its sessions, and it connects again with backoff.
// Thread-safe. Outlives the engine's use of it: Stop it, destroy the engine, then destroy it.
class LinkClient {
 public:
  // Connects in the background.
  explicit LinkClient(LinkClientOptions options);
  ~LinkClient();
  LinkClient(const LinkClient&) = delete;
  LinkClient& operator=(const LinkClient&) = delete;

  struct State {
    // OK: connected. Otherwise why not: UNAVAILABLE, or FAILED_PRECONDITION when the peers do not
    // belong together.
    absl::Status status;
    bool draining = false;  // the expert process is about to stop
    bool tried = false;     // the first attempt to connect has succeeded or failed
    // Those of the last handshake that have not left since, and those that have come; empty before
    // the first.
    std::vector<internal::v1::ExpertDescription> experts;
    int layer_begin = 0;  // the first that the expert process computes; of the last handshake
  };
  State GetState() const;
  const std::string& address() const;

  // Ends the stream and waits until nothing of it runs any more. The engine is not called
  // afterwards.
  void Stop();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::rpc
