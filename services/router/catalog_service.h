#pragma once

#include <memory>
#include <string>

#include "services/router/router_core.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::router {

// ccoe.v1.CatalogService. `core` outlives it.
std::unique_ptr<grpc::Service> NewCatalogService(RouterCore* core, std::string version);

}  // namespace ccoe::router
