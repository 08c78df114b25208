#pragma once

#include <memory>
#include <string>

#include "common/model/model.h"
#include "common/rpc/link_handshake.h"
#include "common/runtime/engine.h"
#include "services/backbone/expert_table.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::backbone {

struct BackboneServiceOptions {
  std::shared_ptr<const model::Model> model;
  runtime::Engine* engine = nullptr;
  rpc::LinkIdentity identity;
  const ExpertTable* experts = nullptr;
  std::string version;  // of the program
};

// What routers call (proto/ccoe/internal/v1/session.proto). Thread-safe. Outlives its gRPC server.
class BackboneService {
 public:
  explicit BackboneService(BackboneServiceOptions options);
  ~BackboneService();

  grpc::Service* service();
  // Tells the watchers that an expert came or went.
  void ExpertsChanged();
  // Tells the watchers that this backbone is about to stop.
  void SetDraining();
  // Ends the streams of the watchers, which would otherwise last for ever.
  void EndWatches();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::backbone
