#include "services/router/catalog_service.h"

#include <utility>

#include "absl/time/clock.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/status.h"
#include "services/router/call_info.h"
#include "services/router/catalog.h"
#include "services/router/convert.h"
#include "services/router/status_report.h"
#include "services/router/validation.h"

namespace ccoe::router {
namespace {

class CatalogService final : public v1::CatalogService::CallbackService {
 public:
  CatalogService(RouterCore* core, Transitions* transitions, std::string version)
      : core_(*core),
        transitions_(*transitions),
        version_(std::move(version)),
        started_at_(absl::Now()) {}

  grpc::ServerUnaryReactor* ListExperts(grpc::CallbackServerContext* context,
                                        const v1::ListExpertsRequest* request,
                                        v1::ListExpertsResponse* response) override {
    return Answer("ListExperts", context, *request, [&] { return List(*request, response); });
  }

  grpc::ServerUnaryReactor* GetExpert(grpc::CallbackServerContext* context,
                                      const v1::GetExpertRequest* request,
                                      v1::GetExpertResponse* response) override {
    return Answer("GetExpert", context, *request, [&]() -> absl::Status {
      if (request->name().empty()) return InvalidField("name", " is empty");
      return Get(*request, response);
    });
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override {
    return Answer("GetModel", context, *request, [&]() -> absl::Status {
      CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, core_.GetCatalog());
      const ModelDescription& model = catalog->model;
      v1::ModelInfo& proto = *response->mutable_model();
      proto.set_name(model.name);
      proto.set_digest(model.digest);
      proto.set_family(model.family);
      proto.set_layers(model.layers);
      proto.set_hidden_size(model.hidden);
      proto.set_vocab_size(model.vocab);
      proto.set_context_tokens(model.context_tokens);
      proto.set_arithmetic(model.arithmetic);
      proto.set_chat_template(model.chat_template);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override {
    return Answer("GetServerInfo", context, *request, [&] {
      const Limits& limits = core_.limits();
      response->set_version(version_);
      response->mutable_started_at()->set_seconds(absl::ToUnixSeconds(started_at_));
      response->set_max_message_bytes(limits.max_message_bytes);
      response->set_max_prompt_tokens(core_.MaxPromptTokens());
      response->set_max_output_tokens(limits.max_output_tokens);
      *response->mutable_max_queue_time() = rpc::ToProto(limits.max_queue_time);
      *response->mutable_max_request_time() = rpc::ToProto(limits.max_request_time);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override {
    return Answer("GetStatus", context, *request, [&] {
      *response = StatusReport(&core_);
      response->mutable_started_at()->set_seconds(absl::ToUnixSeconds(started_at_));
      return absl::OkStatus();
    });
  }

 private:
  absl::Status List(const v1::ListExpertsRequest& request, v1::ListExpertsResponse* response) {
    CCOE_RETURN_IF_ERROR(core_.GetCatalog().status());
    for (v1::ExpertVersion& version : AllVersions(core_.backbone(), transitions_)) {
      if (!request.domain().empty() && version.expert().domain() != request.domain()) continue;
      *response->add_experts() = std::move(*version.mutable_expert());
    }
    return absl::OkStatus();
  }

  absl::Status Get(const v1::GetExpertRequest& request, v1::GetExpertResponse* response) {
    CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, core_.GetCatalog());
    const auto found = FindExpert(*catalog, {request.name(), request.version()});
    if (found.ok()) {
      *response->mutable_expert() = ExpertProto(**found);
      return absl::OkStatus();
    }
    for (v1::ExpertVersion& version : AllVersions(core_.backbone(), transitions_)) {
      v1::Expert& expert = *version.mutable_expert();
      if (expert.name() != request.name() || expert.version() != request.version()) continue;
      *response->mutable_expert() = std::move(expert);
      return absl::OkStatus();
    }
    return found.status();
  }

  // Checks the request and answers it at once with the status of `body`.
  template <typename Body>
  grpc::ServerUnaryReactor* Answer(const char* method, grpc::CallbackServerContext* context,
                                   const google::protobuf::Message& request, Body body) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::Status status = ReadCallInfo(method, core_.keys(), *context).caller.status();
    if (status.ok()) status = CheckNoUnknownFields(request);
    if (status.ok()) status = body();
    if (!status.ok()) rpc::AddErrorTrailers(status, *context);
    reactor->Finish(rpc::ToGrpcStatus(status));
    return reactor;
  }

  RouterCore& core_;
  Transitions& transitions_;
  const std::string version_;
  const absl::Time started_at_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewCatalogService(RouterCore* core, Transitions* transitions,
                                                 std::string version) {
  return std::make_unique<CatalogService>(core, transitions, std::move(version));
}

}  // namespace ccoe::router
