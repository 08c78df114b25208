#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "services/gateway/handlers.h"

namespace ccoe::gateway {

// A file of the playground, as it is in playground/.
struct Asset {
  std::string_view name;
  std::string_view etag;  // quoted
  std::string_view body;
};

// All of them; made by the build.
absl::Span<const Asset> Assets();

// Answers with the file that the path names; with index.html for "/".
void HandlePlayground(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                      const std::string&);

}  // namespace ccoe::gateway
