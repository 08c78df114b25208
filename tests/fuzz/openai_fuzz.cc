#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/base/check.h"
#include "services/gateway/http_error.h"
#include "services/gateway/openai_request.h"

// Bodies of requests: none may crash, and what is refused is INVALID_ARGUMENT, which makes an
// answer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ccoe;  // NOLINT
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto check = [](const absl::Status& status) {
    if (status.ok()) return;
    CCOE_CHECK(absl::IsInvalidArgument(status));
    CCOE_CHECK(gateway::ErrorResponse(status).status == 400);
  };
  check(gateway::ParseChatRequest(body, 1 << 16).status());
  check(gateway::ParseCompletionRequest(body, 1 << 16).status());
  check(gateway::ParseRouteRequest(body, 1 << 16).status());
  return 0;
}
