#pragma once

#include <memory>

#include "common/rpc/upload.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::router {

class ExpertHost;
class RouterCore;
class Transitions;

struct AdminServiceOptions {
  RouterCore* core = nullptr;
  Transitions* transitions = nullptr;  // where it tells what is under way
  ExpertHost* host = nullptr;          // of the core's backbone
  rpc::UploadOptions uploads;
};

// ccoe.v1.AdminService. Its calls run on gRPC's own threads and take as long as loading takes. What
// the options point to outlives it.
std::unique_ptr<grpc::Service> NewAdminService(AdminServiceOptions options);

}  // namespace ccoe::router
