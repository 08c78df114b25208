#pragma once

#include "ccoe/v1/catalog_service.pb.h"
#include "services/router/router_core.h"

namespace ccoe::router {

// What runs now, as a router sees it; without started_at.
v1::GetStatusResponse StatusReport(RouterCore* core);

}  // namespace ccoe::router
