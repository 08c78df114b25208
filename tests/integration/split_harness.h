#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/rpc/link_client.h"
#include "common/rpc/link_server.h"
#include "common/rpc/server.h"
#include "services/backbone/backbone_node.h"
#include "tests/integration/engine_harness.h"

namespace grpc {
class Service;
}  // namespace grpc

// Two engines with a link between them, over a real socket.
namespace ccoe::testing {

// Waits for what another thread is about to do; false after half a minute.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

rpc::LinkIdentity IdentityOf(const model::Model& model, compute::Arithmetic arithmetic, int begin,
                             int end);

struct ExpertSetup {
  std::vector<std::string> packages;
  int begin = 0;
  int64_t credit_bytes = int64_t{16} << 20;
  std::string listen = "127.0.0.1:0";
  absl::Duration linger = absl::Milliseconds(20);
  std::string upload_dir = {};
  grpc::Service* package_service = nullptr;  // instead of the real one; outlives the process
};

// An expert process within this one: an engine over [begin, layers) behind a link server.
struct ExpertSide {
  int begin = 0;
  std::unique_ptr<runtime::Engine> engine;
  std::unique_ptr<rpc::LinkServer> links;
  std::unique_ptr<grpc::Service> packages;
  std::unique_ptr<rpc::Server> server;

  static std::unique_ptr<ExpertSide> Start(const std::shared_ptr<const model::Model>& model,
                                           const ExpertSetup& setup);
  ~ExpertSide();
  // Serves one more package.
  absl::Status Push(const std::string& package);
  // Nothing is left of any session.
  bool AtRest() const { return links->sessions() == 0 && engine->Stats().kv_pages_used == 0; }
};

// The unsplit model with the same experts.
std::unique_ptr<runtime::Engine> UnsplitEngine(const std::shared_ptr<const model::Model>& model,
                                               const std::vector<std::string>& packages);

// A backbone process within this one: an engine over [0, end) and a link to each expert process.
struct BackboneSide {
  std::vector<std::unique_ptr<rpc::LinkClient>> links;  // go last: the engine may hold on to them
  std::unique_ptr<runtime::Engine> engine;

  static std::unique_ptr<BackboneSide> Start(const std::shared_ptr<const model::Model>& model,
                                             int end, const rpc::LinkIdentity& identity,
                                             const std::string& address);
  ~BackboneSide();
  // Adds a link to another expert process.
  void AddLink(const rpc::LinkIdentity& identity, const std::string& address);
  // Waits for the handshakes.
  bool Connected() const;
  bool AtRest() const {
    const runtime::EngineStats stats = engine->Stats();
    return stats.kv_pages_used == 0 && stats.boundary_bytes_used == 0;
  }
};

// A backbone process within this one: layers [0, layers) of the tiny Llama model, with links to the
// expert processes at `peers`.
std::unique_ptr<backbone::BackboneNode> StartBackboneNode(int layers,
                                                          const std::vector<std::string>& peers,
                                                          const std::string& listen);
// The main address in a node's ready line.
std::string AddressIn(const std::string& ready_line);

}  // namespace ccoe::testing
