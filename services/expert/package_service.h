#pragma once

#include <memory>

#include "ccoe/internal/v1/link.pb.h"
#include "common/model/model.h"
#include "common/rpc/link_server.h"
#include "common/rpc/upload.h"
#include "common/runtime/engine.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::expert {

struct PackageServiceOptions {
  std::shared_ptr<const model::Model> model;
  runtime::Engine* engine = nullptr;
  rpc::LinkServer* links = nullptr;
  int layer_begin = 0;  // of the engine
  int base_begin = 0;   // as of LinkServerOptions
  rpc::UploadOptions uploads;
};

// ccoe.internal.v1.PackageService over an engine and the links that offer its experts; both outlive
// it. Its calls run on gRPC's own threads and take as long as loading takes.
std::unique_ptr<grpc::Service> NewPackageService(PackageServiceOptions options);

}  // namespace ccoe::expert
