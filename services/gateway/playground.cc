#include "services/gateway/playground.h"

#include <utility>

#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

constexpr std::string_view kIndex = "index.html";

// The page runs its own files, and speaks to its own server, alone.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

std::string ContentTypeOf(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  return "text/javascript; charset=utf-8";
}

}  // namespace

void HandlePlayground(HandlerContext&, std::shared_ptr<Exchange> exchange, const std::string&) {
  const HttpRequest& request = exchange->request();
  std::string_view name = request.path;
  name.remove_prefix(1);
  if (name.empty()) name = kIndex;
  for (const Asset& asset : Assets()) {
    if (asset.name != name) continue;
    HttpResponse response;
    response.content_type = ContentTypeOf(name);
    response.headers = {{"ETag", std::string(asset.etag)},
                        {"Cache-Control", "no-cache"},
                        {"Content-Security-Policy", kPolicy},
                        {"Referrer-Policy", "no-referrer"},
                        {"X-Content-Type-Options", "nosniff"}};
    if (request.if_none_match == asset.etag) {
      response.status = 304;
    } else {
      response.body = std::string(asset.body);
    }
    return exchange->Respond(std::move(response));
  }
  exchange->Respond(ErrorResponse(404, "not_found", "the page has no such file"));
}

}  // namespace ccoe::gateway
