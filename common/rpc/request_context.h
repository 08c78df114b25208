#pragma once

#include <string>
#include <string_view>

namespace grpc {
class ClientContext;
class ServerContextBase;
}  // namespace grpc

namespace ccoe::rpc {

inline constexpr char kRequestIdKey[] = "x-request-id";
inline constexpr char kTraceparentKey[] = "traceparent";

// What accompanies a request on every hop.
struct RequestContext {
  std::string request_id;   // never empty
  std::string traceparent;  // W3C trace context, or empty
};

// 1..128 of [A-Za-z0-9._:-].
bool IsValidRequestId(std::string_view id);
// 32 random hexadecimal digits.
std::string MakeRequestId();
// "00-<32 hex>-<16 hex>-<2 hex>", as of W3C Trace Context.
bool IsValidTraceparent(std::string_view value);

// From a call's metadata. An id that is absent or not valid is replaced by one that is made; a
// traceparent that is not valid is dropped.
RequestContext ReadRequestContext(const grpc::ServerContextBase& context);
// For the next hop.
void WriteRequestContext(const RequestContext& request, grpc::ClientContext& context);

}  // namespace ccoe::rpc
