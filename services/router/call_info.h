#pragma once

#include <grpcpp/server_context.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/error.h"
#include "common/rpc/request_context.h"
#include "services/router/session_call.h"

namespace ccoe::router {

// What a call brings along; puts its request id into the trailers.
inline CallInfo ReadCallInfo(const char* method, grpc::CallbackServerContext& context) {
  rpc::RequestContext request = rpc::ReadRequestContext(context);
  context.AddTrailingMetadata(rpc::kRequestIdKey, request.request_id);
  CallInfo info;
  info.method = method;
  info.request_id = std::move(request.request_id);
  info.traceparent = std::move(request.traceparent);
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
