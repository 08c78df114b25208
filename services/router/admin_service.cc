#include "services/router/admin_service.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/admin_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"
#include "services/router/catalog.h"
#include "services/router/convert.h"
#include "services/router/expert_host.h"
#include "services/router/gate_confusion.h"
#include "services/router/router_core.h"
#include "services/router/transitions.h"
#include "services/router/validation.h"

namespace ccoe::router {
namespace {

// What the states of example prompts may take; those that are not there by then do not count.
constexpr absl::Duration kConfusionTime = absl::Seconds(30);

v1::GateConfusion ConfusionProto(const GateConfusion& confusion) {
  v1::GateConfusion proto;
  proto.set_domain(confusion.domain);
  proto.set_prompts(confusion.prompts);
  proto.set_moved(confusion.moved);
  proto.set_own(confusion.own);
  return proto;
}

// Of a PushExpertRequest or an UploadHeader.
template <typename Request>
PushOptions OptionsOf(const Request& request) {
  return {{request.nodes().begin(), request.nodes().end()}, request.validate_only()};
}

// The one that a name and perhaps a version stand for.
absl::StatusOr<CatalogEntry> FindOne(const Catalog& catalog, const runtime::ExpertKey& key) {
  CCOE_ASSIGN_OR_RETURN(const CatalogEntry* found, FindExpert(catalog, key));
  const auto versions =
      std::count_if(catalog.experts.begin(), catalog.experts.end(),
                    [&](const CatalogEntry& entry) { return entry.info.key.name == key.name; });
  if (key.version.empty() && versions > 1) {
    return base::MakeError(
        base::Reason::kInvalidRequest,
        absl::StrCat("expert ", key.name, " has ", versions, " versions; say which"),
        {.metadata = {{"field", "version"}}, .retry_after = {}});
  }
  return *found;
}

class AdminService final : public v1::AdminService::Service {
 public:
  explicit AdminService(AdminServiceOptions options)
      : core_(*options.core),
        transitions_(*options.transitions),
        host_(*options.host),
        uploads_(std::move(options.uploads)) {}

  grpc::Status PushExpert(grpc::ServerContext* context, const v1::PushExpertRequest* request,
                          v1::PushExpertResponse* response) override {
    return Answer(context, *request, [&]() -> absl::Status {
      if (request->folder().empty()) return InvalidField("folder", " is empty");
      return Push(request->folder(), OptionsOf(*request), response);
    });
  }

  grpc::Status UploadExpert(grpc::ServerContext* context,
                            grpc::ServerReader<v1::UploadExpertRequest>* reader,
                            v1::UploadExpertResponse* response) override {
    v1::UploadExpertRequest first;
    reader->Read(&first);
    return Answer(context, first, [&]() -> absl::Status {
      if (!first.has_header()) return InvalidField("header", " is not in the first message");
      CCOE_ASSIGN_OR_RETURN(const std::unique_ptr<rpc::Upload> upload,
                            Receive(*context, first.header(), *reader));
      return upload->WithoutFolder(
          Push(upload->folder(), OptionsOf(first.header()), response->mutable_pushed()));
    });
  }

  grpc::Status PopExpert(grpc::ServerContext* context, const v1::PopExpertRequest* request,
                         v1::PopExpertResponse* response) override {
    return Answer(context, *request, [&] { return Pop(*request, response); });
  }

  grpc::Status SetTraffic(grpc::ServerContext* context, const v1::SetTrafficRequest* request,
                          v1::SetTrafficResponse* response) override {
    return Answer(context, *request, [&]() -> absl::Status {
      CCOE_RETURN_IF_ERROR(Share(*request));
      return List(request->domain(), response->mutable_versions());
    });
  }

  grpc::Status ListVersions(grpc::ServerContext* context, const v1::ListVersionsRequest* request,
                            v1::ListVersionsResponse* response) override {
    return Answer(context, *request,
                  [&] { return List(request->domain(), response->mutable_versions()); });
  }

 private:
  using Versions = google::protobuf::RepeatedPtrField<v1::ExpertVersion>;

  // All files of an upload.
  absl::StatusOr<std::unique_ptr<rpc::Upload>> Receive(
      const grpc::ServerContext& context, const v1::UploadHeader& header,
      grpc::ServerReader<v1::UploadExpertRequest>& reader) const {
    std::vector<rpc::UploadFile> files;
    for (const v1::UploadFile& file : header.files()) files.push_back({file.name(), file.bytes()});
    CCOE_ASSIGN_OR_RETURN(std::unique_ptr<rpc::Upload> upload,
                          rpc::Upload::Begin(uploads_, std::move(files)));
    v1::UploadExpertRequest next;
    while (reader.Read(&next)) {
      CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(next));
      if (!next.has_chunk()) return InvalidField("chunk", " is not in a message after the first");
      CCOE_RETURN_IF_ERROR(upload->Append(next.chunk()));
    }
    if (context.IsCancelled()) {
      return base::MakeError(base::Reason::kCancelled, "the client left during its upload");
    }
    CCOE_RETURN_IF_ERROR(upload->Finish());
    return upload;
  }

  absl::Status Push(const std::string& folder, const PushOptions& push,
                    v1::PushExpertResponse* response) {
    const absl::Time begin = absl::Now();
    CCOE_RETURN_IF_ERROR(core_.GetCatalog().status());
    Transitions::Loading loading(&transitions_);
    model::ExpertLoadOptions options;
    options.on_manifest = [&](const model::ExpertManifest& manifest) { loading.Begin(manifest); };
    options.progress = [&](double part) { loading.SetProgress(part); };
    CCOE_ASSIGN_OR_RETURN(const auto package, model::ExpertPackage::Load(folder, options));
    CCOE_ASSIGN_OR_RETURN(const CatalogEntry entry, host_.Check(package));
    Backbone& backbone = core_.backbone();
    const StateOf state = StatesFrom(backbone, absl::Now() + kConfusionTime);
    for (const GateConfusion& confusion : CompareGates(*backbone.GetCatalog(), entry, state)) {
      *response->add_confusion() = ConfusionProto(confusion);
    }
    *response->mutable_expert() = ExpertProto(entry);
    CCOE_RETURN_IF_ERROR(host_.Push(package, push));
    if (push.validate_only) return absl::OkStatus();
    transitions_.DropDraining(entry);
    const model::ExpertManifest& manifest = package->manifest();
    telemetry::LogInfo("expert_pushed", {{"expert", manifest.name},
                                         {"version", manifest.version},
                                         {"domain", manifest.domain},
                                         {"load_ms", absl::Now() - begin}});
    return absl::OkStatus();
  }

  absl::Status Pop(const v1::PopExpertRequest& request, v1::PopExpertResponse* response) {
    if (request.name().empty()) return InvalidField("name", " is empty");
    if (request.name() == runtime::kGeneralExpert) {
      return absl::InvalidArgumentError("`general` is the base model and stays");
    }
    {
      // The entry's lease, and the catalog's, go before the log says so.
      CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, core_.GetCatalog());
      CCOE_ASSIGN_OR_RETURN(const CatalogEntry entry,
                            FindOne(*catalog, {request.name(), request.version()}));
      // It is seen as draining before it leaves the catalog.
      transitions_.AddDraining(entry, absl::InfiniteFuture());
      const absl::StatusOr<absl::Duration> stays = host_.Pop(entry.info.key);
      if (!stays.ok()) {
        transitions_.DropDraining(entry);
        return stays.status();
      }
      transitions_.AddDraining(entry, absl::Now() + *stays);
      *response->mutable_expert() = ExpertProto(entry);
    }
    telemetry::LogInfo("expert_popped", {{"expert", response->expert().name()},
                                         {"version", response->expert().version()}});
    return absl::OkStatus();
  }

  absl::Status Share(const v1::SetTrafficRequest& request) {
    if (request.domain().empty()) return InvalidField("domain", " is empty");
    std::vector<VersionWeight> weights;
    std::string text;
    for (const v1::VersionWeight& given : request.weights()) {
      if (given.version().empty()) return InvalidField("weights.version", " is empty");
      weights.push_back({{given.name(), given.version()}, given.weight()});
      absl::StrAppend(&text, text.empty() ? "" : " ", given.version(), "=", given.weight());
    }
    CCOE_RETURN_IF_ERROR(host_.SetTraffic(request.domain(), weights));
    telemetry::LogInfo("traffic_set", {{"domain", request.domain()}, {"weights", text}});
    return absl::OkStatus();
  }

  absl::Status List(const std::string& domain, Versions* versions) {
    CCOE_RETURN_IF_ERROR(core_.GetCatalog().status());
    for (v1::ExpertVersion& version : AllVersions(core_.backbone(), transitions_)) {
      if (!domain.empty() && version.expert().domain() != domain) continue;
      *versions->Add() = std::move(version);
    }
    if (domain.empty() || !versions->empty()) return absl::OkStatus();
    return FindDomain(*core_.backbone().GetCatalog(), domain, 0).status();
  }

  template <typename Body>
  static grpc::Status Answer(grpc::ServerContext* context, const google::protobuf::Message& request,
                             Body body) {
    absl::Status status = CheckNoUnknownFields(request);
    if (status.ok()) status = body();
    if (!status.ok()) rpc::AddErrorTrailers(status, *context);
    return rpc::ToGrpcStatus(status);
  }

  RouterCore& core_;
  Transitions& transitions_;
  ExpertHost& host_;
  const rpc::UploadOptions uploads_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewAdminService(AdminServiceOptions options) {
  return std::make_unique<AdminService>(std::move(options));
}

}  // namespace ccoe::router
