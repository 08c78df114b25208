#pragma once

#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "services/gateway/handlers.h"

namespace ccoe::gateway {

// What answers a path. GET answers HEAD as well, and every path OPTIONS.
struct Route {
  std::string_view method;
  std::string_view path;  // where it ends in ":id", that is the rest of the path, not empty
  Handler handle;
};

// Everything that is served.
absl::Span<const Route> Routes();

// What a request finds.
struct RouteMatch {
  const Route* route = nullptr;     // null: nothing has the path, or not with the method
  std::string rest;                 // in the place of :id, decoded
  std::string_view path = "other";  // the route's; for metrics
  std::string allow;  // methods of the path, "GET, HEAD, OPTIONS"; empty: no such path
};
RouteMatch FindRoute(std::string_view method, std::string_view path);

// Answers a request by the table: 404, 405 with Allow, 204 to OPTIONS, or the route's handler.
void Dispatch(HandlerContext& context, const RouteMatch& match, std::shared_ptr<Exchange> exchange);

}  // namespace ccoe::gateway
