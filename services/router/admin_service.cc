#include "services/router/admin_service.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/admin_service.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"
#include "services/router/catalog.h"
#include "services/router/convert.h"
#include "services/router/local_backbone.h"
#include "services/router/validation.h"

namespace ccoe::router {
namespace {

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
  explicit AdminService(LocalBackbone* backbone) : backbone_(*backbone) {}

  grpc::Status PushExpert(grpc::ServerContext* context, const v1::PushExpertRequest* request,
                          v1::PushExpertResponse* response) override {
    base::MutexLock lock(&mutex_);
    return End(context, Push(*request, response));
  }

  grpc::Status PopExpert(grpc::ServerContext* context, const v1::PopExpertRequest* request,
                         v1::PopExpertResponse* response) override {
    base::MutexLock lock(&mutex_);
    return End(context, Pop(*request, response));
  }

 private:
  absl::Status Push(const v1::PushExpertRequest& request, v1::PushExpertResponse* response) {
    CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(request));
    if (request.folder().empty()) return InvalidField("folder", " is empty");
    const absl::Time begin = absl::Now();
    CCOE_ASSIGN_OR_RETURN(const auto package, model::ExpertPackage::Load(request.folder()));
    CCOE_RETURN_IF_ERROR(backbone_.Push(package));
    const model::ExpertManifest& manifest = package->manifest();
    telemetry::LogInfo("expert_pushed", {{"expert", manifest.name},
                                         {"version", manifest.version},
                                         {"domain", manifest.domain},
                                         {"load_ms", absl::Now() - begin}});
    CCOE_ASSIGN_OR_RETURN(const CatalogEntry entry,
                          FindOne(*backbone_.GetCatalog(), {manifest.name, manifest.version}));
    *response->mutable_expert() = ExpertProto(entry);
    return absl::OkStatus();
  }

  absl::Status Pop(const v1::PopExpertRequest& request, v1::PopExpertResponse* response) {
    CCOE_RETURN_IF_ERROR(CheckNoUnknownFields(request));
    if (request.name().empty()) return InvalidField("name", " is empty");
    {
      // The entry's lease goes before the log says so.
      CCOE_ASSIGN_OR_RETURN(const CatalogEntry entry,
                            FindOne(*backbone_.GetCatalog(), {request.name(), request.version()}));
      CCOE_RETURN_IF_ERROR(backbone_.Pop(entry.info.key));
      *response->mutable_expert() = ExpertProto(entry);
    }
    telemetry::LogInfo("expert_popped", {{"expert", response->expert().name()},
                                         {"version", response->expert().version()}});
    return absl::OkStatus();
  }

  static grpc::Status End(grpc::ServerContext* context, const absl::Status& status) {
    if (!status.ok()) rpc::AddErrorTrailers(status, *context);
    return rpc::ToGrpcStatus(status);
  }

  LocalBackbone& backbone_;
  base::Mutex mutex_;  // one change at a time
};

}  // namespace

std::unique_ptr<grpc::Service> NewAdminService(LocalBackbone* backbone) {
  return std::make_unique<AdminService>(backbone);
}

}  // namespace ccoe::router
