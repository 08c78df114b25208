#pragma once

#include <memory>

#include "services/router/upload.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::router {

class LocalBackbone;

// ccoe.v1.AdminService over an engine in this process. Its calls run on gRPC's own threads and take
// as long as loading takes. `backbone` outlives it.
std::unique_ptr<grpc::Service> NewAdminService(LocalBackbone* backbone, UploadOptions uploads);

}  // namespace ccoe::router
