#include "common/rpc/malformed_request.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "common/base/error.h"
#include "common/rpc/request_context.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::ServerRpcInfo;

// The type that "/package.Service/Method" takes, for people.
std::string RequestType(const std::string& path) {
  const std::string name = absl::StrReplaceAll(absl::StripPrefix(path, "/"), {{"/", "."}});
  const auto* method = google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(name);
  return method == nullptr ? absl::StrCat("request of ", name) : method->input_type()->full_name();
}

class MalformedRequestInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit MalformedRequestInterceptor(ServerRpcInfo* call) : call_(*call) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* batch) override {
    if (batch->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE)) {
      malformed_ = batch->GetRecvMessage() == nullptr;
    }
    if (malformed_ && batch->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      Refuse(batch);
    }
    batch->Proceed();
  }

 private:
  void Refuse(grpc::experimental::InterceptorBatchMethods* batch) {
    const std::string request_id = ReadRequestContext(*call_.server_context()).request_id;
    const absl::Status status =
        base::MakeError(base::Reason::kInvalidRequest,
                        absl::StrCat("the request is not a ", RequestType(call_.method()),
                                     ": it cannot be parsed, or a string in it is not UTF-8"));
    telemetry::LogWarning("request_malformed",
                          {{"request_id", request_id}, {"method", call_.method()}});
    call_.server_context()->AddTrailingMetadata(kRequestIdKey, request_id);
    AddErrorTrailers(status, *call_.server_context());
    batch->ModifySendStatus(ToGrpcStatus(status));
  }

  ServerRpcInfo& call_;
  bool malformed_ = false;
};

}  // namespace

grpc::experimental::Interceptor* MalformedRequestFactory::CreateServerInterceptor(
    ServerRpcInfo* call) {
  switch (call->type()) {
    case ServerRpcInfo::Type::UNARY:
    case ServerRpcInfo::Type::SERVER_STREAMING:
      return new MalformedRequestInterceptor(call);
    case ServerRpcInfo::Type::CLIENT_STREAMING:
    case ServerRpcInfo::Type::BIDI_STREAMING:
      return nullptr;
  }
  return nullptr;
}

}  // namespace ccoe::rpc
