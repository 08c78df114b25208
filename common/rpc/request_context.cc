#include "common/rpc/request_context.h"

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

namespace ccoe::rpc {
namespace {

std::string_view Value(const grpc::ServerContextBase& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

bool IsValidRequestId(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == ':' ||
           c == '-';
  });
}

std::string MakeRequestId() {
  thread_local std::mt19937_64 engine{std::random_device{}()};
  return absl::StrFormat("%016x%016x", engine(), engine());
}

bool IsValidTraceparent(std::string_view value) {
  return value.size() == 55 && value[2] == '-' && value[35] == '-' && value[52] == '-' &&
         IsLowerHex(value.substr(0, 2)) && value.substr(0, 2) != "ff" &&
         IsLowerHex(value.substr(3, 32)) && value.substr(3, 32) != std::string(32, '0') &&
         IsLowerHex(value.substr(36, 16)) && value.substr(36, 16) != std::string(16, '0') &&
         IsLowerHex(value.substr(53, 2));
}

RequestContext ReadRequestContext(const grpc::ServerContextBase& context) {
  const std::string_view id = Value(context, kRequestIdKey);
  const std::string_view trace = Value(context, kTraceparentKey);
  RequestContext request;
  request.request_id = IsValidRequestId(id) ? std::string(id) : MakeRequestId();
  if (IsValidTraceparent(trace)) request.traceparent = std::string(trace);
  return request;
}

void WriteRequestContext(const RequestContext& request, grpc::ClientContext& context) {
  context.AddMetadata(kRequestIdKey, request.request_id);
  if (!request.traceparent.empty()) context.AddMetadata(kTraceparentKey, request.traceparent);
}

}  // namespace ccoe::rpc
