#pragma once

#include <memory>

#include "services/router/router_core.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::router {

// ccoe.v1.GenerationService. `core` outlives it.
std::unique_ptr<grpc::Service> NewGenerationService(RouterCore* core);

}  // namespace ccoe::router
