#include "services/gateway/http_error.h"

#include <boost/beast/http/status.hpp>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/error.h"

namespace ccoe::gateway {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kParamKey[] = "param";
constexpr int kClientLeft = 499;  // as nginx has it

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string CodeOf(const absl::Status& status) {
  const base::Reason reason = base::ReasonOf(status);
  switch (reason) {
    case base::Reason::kUnsupportedField:
      return "unsupported_parameter";
    case base::Reason::kPromptTooLong:
      return "context_length_exceeded";
    case base::Reason::kUnknownDomain:
    case base::Reason::kUnknownExpert:
      return "model_not_found";
    default:
      return absl::AsciiStrToLower(std::string(base::EntryOf(reason).name));
  }
}

Json ParamOf(const absl::Status& status) {
  for (const auto& [key, value] : base::DetailsOf(status).metadata) {
    if (key == kParamKey) return value;
  }
  return nullptr;
}

Json MakeError(const std::string& message, const char* type, Json param, const std::string& code) {
  return {{"error",
           {{"message", message}, {"type", type}, {"param", std::move(param)}, {"code", code}}}};
}

absl::Status AtParam(base::Reason reason, const std::string& param, const std::string& message) {
  if (param.empty()) return base::MakeError(reason, message);
  return base::MakeError(reason, absl::StrCat(param, ": ", message),
                         {.metadata = {{kParamKey, param}}, .retry_after = std::nullopt});
}

}  // namespace

std::string ReasonPhrase(int status) {
  if (status == kClientLeft) return "Client Closed Request";
  const auto text =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
  return {text.data(), text.size()};
}

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return kClientLeft;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

Json ErrorJson(const absl::Status& status) {
  return MakeError(std::string(status.message()), TypeOf(HttpStatusOf(status.code())),
                   ParamOf(status), CodeOf(status));
}

HttpResponse ErrorResponse(const absl::Status& status) {
  HttpResponse response;
  response.status = HttpStatusOf(status.code());
  response.body = Dump(ErrorJson(status));
  if (const auto after = base::DetailsOf(status).retry_after; after.has_value()) {
    const int64_t ms = absl::ToInt64Milliseconds(absl::Ceil(*after, absl::Milliseconds(1)));
    response.headers = {{"Retry-After", absl::StrCat((ms + 999) / 1000)},
                        {"Retry-After-Ms", absl::StrCat(ms)}};
  }
  // OpenAI's clients try again after 429 and 5xx unless they are told not to.
  if (base::EntryOf(base::ReasonOf(status)).retry != base::Retry::kLater) {
    response.headers.emplace_back("X-Should-Retry", "false");
  }
  return response;
}

HttpResponse ErrorResponse(int status, const std::string& code, const std::string& message) {
  HttpResponse response;
  response.status = status;
  response.body = Dump(MakeError(message, TypeOf(status), nullptr, code));
  return response;
}

absl::Status InvalidParam(const std::string& param, const std::string& message) {
  return AtParam(base::Reason::kInvalidRequest, param, message);
}

absl::Status UnsupportedParam(const std::string& param, const std::string& message) {
  return AtParam(base::Reason::kUnsupportedField, param, message);
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace ccoe::gateway
