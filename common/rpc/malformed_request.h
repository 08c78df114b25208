#pragma once

#include <grpcpp/support/server_interceptor.h>

namespace ccoe::rpc {

// Answers requests that are not the message of their method, which gRPC on its own refuses with a
// bare UNIMPLEMENTED: INVALID_ARGUMENT with ErrorInfo, a message that names the expected type, and
// the trailers of every error, x-request-id among them. For methods with a single request.
class MalformedRequestFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* call) override;
};

}  // namespace ccoe::rpc
