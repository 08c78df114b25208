#pragma once

#include <string>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "services/gateway/exchange.h"

namespace ccoe::gateway {

// "Not Found" of 404.
std::string ReasonPhrase(int status);

// The HTTP status of a gRPC status code (docs/http.md).
int HttpStatusOf(absl::StatusCode code);

// {"error": {"message", "type", "param", "code"}}: `code` is OpenAI's name where it has one for the
// error, else the reason's in lower case; `param` is the metadata "param". Requires !status.ok().
nlohmann::ordered_json ErrorJson(const absl::Status& status);

// The answer to a request that failed: ErrorJson, with Retry-After and retry-after-ms where the
// status says when to try again.
HttpResponse ErrorResponse(const absl::Status& status);
// The same for what never became a call.
HttpResponse ErrorResponse(int status, const std::string& code, const std::string& message);

// INVALID_ARGUMENT about a field of a request, by its path in the JSON ("messages[0].role"); empty:
// about the whole of it.
absl::Status InvalidParam(const std::string& param, const std::string& message);
// As InvalidParam, for what OpenAI's API has and this one does not.
absl::Status UnsupportedParam(const std::string& param, const std::string& message);

// As JSON text; what is not UTF-8 is replaced.
std::string Dump(const nlohmann::ordered_json& json);

}  // namespace ccoe::gateway
