#include "services/gateway/routes.h"

#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/gateway/http_error.h"
#include "services/gateway/playground.h"

namespace ccoe::gateway {
namespace {

constexpr std::string_view kVariable = ":id";

constexpr auto kRoutes = std::to_array<Route>({
    {"POST", "/v1/chat/completions", HandleChat},
    {"POST", "/v1/completions", HandleCompletion},
    {"GET", "/v1/models", HandleListModels},
    {"GET", "/v1/models/:id", HandleGetModel},
    {"POST", "/v1/ccoe/route", HandleRoute},
    {"GET", "/v1/ccoe/status", HandleStatus},
    {"GET", "/healthz", HandleHealth},
    {"GET", "/", HandlePlayground},
    {"GET", "/playground.css", HandlePlayground},
    {"GET", "/playground.js", HandlePlayground},
    {"GET", "/answer.js", HandlePlayground},
    {"GET", "/api.js", HandlePlayground},
    {"GET", "/dom.js", HandlePlayground},
    {"GET", "/system.js", HandlePlayground},
});

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// "sql@1" of "sql%401"; what is no escape stays.
std::string DecodePercent(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? HexValue(text[i + 1]) : -1;
    const int low = high >= 0 ? HexValue(text[i + 2]) : -1;
    if (low < 0) {
      decoded += text[i];
    } else {
      decoded += static_cast<char>(16 * high + low);
      i += 2;
    }
  }
  return decoded;
}

bool Matches(const Route& route, std::string_view path, std::string* rest) {
  if (!route.path.ends_with(kVariable)) return route.path == path;
  const std::string_view prefix = route.path.substr(0, route.path.size() - kVariable.size());
  if (!path.starts_with(prefix) || path.size() == prefix.size()) return false;
  *rest = DecodePercent(path.substr(prefix.size()));
  return true;
}

}  // namespace

absl::Span<const Route> Routes() { return kRoutes; }

RouteMatch FindRoute(std::string_view method, std::string_view path) {
  RouteMatch match;
  if (method == "HEAD") method = "GET";
  for (const Route& route : kRoutes) {
    if (!Matches(route, path, &match.rest)) continue;
    match.path = route.path;
    if (route.method == method) match.route = &route;
    absl::StrAppend(&match.allow, std::string(route.method), route.method == "GET" ? ", HEAD" : "",
                    ", ");
  }
  if (!match.allow.empty()) match.allow += "OPTIONS";
  return match;
}

void Dispatch(HandlerContext& context, const RouteMatch& match,
              std::shared_ptr<Exchange> exchange) {
  if (match.route != nullptr) {
    return match.route->handle(context, std::move(exchange), match.rest);
  }
  const HttpRequest& request = exchange->request();
  if (match.allow.empty()) {
    return exchange->Respond(
        ErrorResponse(404, "not_found", absl::StrCat("nothing is served at ", request.path)));
  }
  HttpResponse response;
  if (request.method == "OPTIONS") {
    response.status = 204;
  } else {
    response = ErrorResponse(405, "method_not_allowed",
                             absl::StrCat(request.path, " takes ", match.allow));
  }
  response.headers.emplace_back("Allow", match.allow);
  exchange->Respond(std::move(response));
}

}  // namespace ccoe::gateway
