#pragma once

#include <memory>

#include "common/rpc/upload.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::router {

class LocalBackbone;
class Transitions;

// ccoe.v1.AdminService over an engine in this process. Its calls run on gRPC's own threads and take
// as long as loading takes. `backbone` and `transitions`, where it tells what is under way, outlive
// it.
std::unique_ptr<grpc::Service> NewAdminService(LocalBackbone* backbone, Transitions* transitions,
                                               rpc::UploadOptions uploads);

}  // namespace ccoe::router
