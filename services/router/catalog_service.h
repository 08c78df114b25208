#pragma once

#include <memory>
#include <string>

#include "services/router/router_core.h"
#include "services/router/transitions.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace ccoe::router {

// ccoe.v1.CatalogService. `core` and `transitions` outlive it.
std::unique_ptr<grpc::Service> NewCatalogService(RouterCore* core, Transitions* transitions,
                                                 std::string version);

}  // namespace ccoe::router
