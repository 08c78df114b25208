#pragma once

#include <grpcpp/server_context.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/error.h"
#include "common/rpc/request_context.h"
#include "services/router/key_ring.h"
#include "services/router/session_call.h"

namespace ccoe::router {

// Whose a call is: null without keys. UNAUTHENTICATED as of KeyRing::Find.
inline absl::StatusOr<std::shared_ptr<Caller>> ReadCaller(
    const KeyRing* keys, const grpc::CallbackServerContext& context) {
  if (keys == nullptr) return std::shared_ptr<Caller>();
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  if (found == metadata.end()) return keys->Find("");
  return keys->Find({found->second.data(), found->second.size()});
}

// What a call brings along; puts its request id into the trailers. `keys` is null where none is
// asked for.
inline CallInfo ReadCallInfo(const char* method, const KeyRing* keys,
                             grpc::CallbackServerContext& context) {
  rpc::RequestContext request = rpc::ReadRequestContext(context);
  context.AddTrailingMetadata(rpc::kRequestIdKey, request.request_id);
  CallInfo info;
  info.method = method;
  info.request_id = std::move(request.request_id);
  info.traceparent = std::move(request.traceparent);
  info.caller = ReadCaller(keys, context);
  if (context.deadline() != std::chrono::system_clock::time_point::max()) {
    info.deadline = absl::FromChrono(context.deadline());
  }
  return info;
}

// Why gRPC says that a call is cancelled.
inline absl::Status CancelReason(const CallInfo& info) {
  if (absl::Now() >= info.deadline) {
    return base::MakeError(base::Reason::kDeadlineExceeded, "the request's deadline has passed");
  }
  return base::MakeError(base::Reason::kCancelled, "the client cancelled the request");
}

}  // namespace ccoe::router
