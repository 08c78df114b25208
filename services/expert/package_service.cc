#include "services/expert/package_service.h"

#include <grpcpp/server_context.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/internal/v1/packages.grpc.pb.h"
#include "common/base/error.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/model/expert_package.h"
#include "common/rpc/engine_node.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/status.h"
#include "common/telemetry/log.h"

namespace ccoe::expert {
namespace {

using internal::v1::PackageHeader;
using internal::v1::PopPackageRequest;
using internal::v1::PopPackageResponse;
using internal::v1::PushPackageRequest;
using internal::v1::PushPackageResponse;
using PushStream = grpc::ServerReaderWriter<PushPackageResponse, PushPackageRequest>;

// A package that has arrived whole and belongs here. Its files are gone.
struct Arrived {
  std::shared_ptr<const model::ExpertPackage> package;
  internal::v1::ExpertDescription description;
};

// An expert that is in the engine and on offer to nobody; leaves the engine again with this, unless
// it was kept.
class Staged {
 public:
  Staged(runtime::Engine& engine, runtime::ExpertKey key) : engine_(engine), key_(std::move(key)) {}
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  ~Staged() {
    if (!kept_) engine_.RemoveExpert(key_).IgnoreError();
  }
  void Keep() { kept_ = true; }

 private:
  runtime::Engine& engine_;
  const runtime::ExpertKey key_;
  bool kept_ = false;
};

absl::Status OutOfTurn(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("push: ", what));
}

class PackageService final : public internal::v1::PackageService::Service {
 public:
  explicit PackageService(PackageServiceOptions options)
      : options_(std::move(options)), base_begin_(options_.base_begin) {}

  grpc::Status PushPackage(grpc::ServerContext* /*context*/, PushStream* stream) override {
    const absl::Status status = Push(*stream);
    if (!status.ok()) {
      telemetry::LogWarning("push_refused", {{"message", std::string(status.message())}});
    }
    return rpc::ToGrpcStatus(status);
  }

  grpc::Status PopPackage(grpc::ServerContext* /*context*/, const PopPackageRequest* request,
                          PopPackageResponse* response) override {
    const internal::v1::ExpertRef& expert = request->expert();
    const absl::Status status = options_.links->Pop({expert.name(), expert.version()});
    if (status.ok()) {
      telemetry::LogInfo("expert_popped",
                         {{"expert", expert.name()}, {"version", expert.version()}});
      *response->mutable_linger() = rpc::ToProto(options_.links->linger());
    }
    return rpc::ToGrpcStatus(status);
  }

 private:
  absl::Status Push(PushStream& stream) {
    const absl::Time begin = absl::Now();
    PushPackageRequest request;
    if (!stream.Read(&request) || !request.has_header()) {
      return OutOfTurn("the first message is no header");
    }
    const PackageHeader header = std::move(*request.mutable_header());
    CCOE_ASSIGN_OR_RETURN(const Arrived arrived, Receive(header, stream));
    PushPackageResponse response;
    response.mutable_loaded();
    if (header.validate_only()) {
      stream.Write(response);
      return absl::OkStatus();
    }
    CCOE_RETURN_IF_ERROR(options_.engine->AddExpert(arrived.package));
    const model::ExpertManifest& manifest = arrived.package->manifest();
    Staged staged(*options_.engine, {manifest.name, manifest.version});
    stream.Write(response);
    if (!stream.Read(&request)) {
      return base::MakeError(base::Reason::kCancelled, "the push was given up");
    }
    if (!request.has_commit()) return OutOfTurn("a message that is no commit after the last chunk");
    CCOE_RETURN_IF_ERROR(options_.links->Add(arrived.description, TakeBase(manifest)));
    staged.Keep();
    telemetry::LogInfo("expert_pushed", {{"expert", manifest.name},
                                         {"version", manifest.version},
                                         {"domain", manifest.domain},
                                         {"load_ms", absl::Now() - begin}});
    response.mutable_served();
    stream.Write(response);
    return absl::OkStatus();
  }

  absl::StatusOr<Arrived> Receive(const PackageHeader& header, PushStream& stream) const {
    std::vector<rpc::UploadFile> files;
    files.reserve(header.files_size());
    for (const internal::v1::PackageFile& file : header.files()) {
      files.push_back({file.name(), file.bytes()});
    }
    CCOE_ASSIGN_OR_RETURN(const std::unique_ptr<rpc::Upload> upload,
                          rpc::Upload::Begin(options_.uploads, std::move(files)));
    PushPackageRequest request;
    while (!upload->Finish().ok()) {
      if (!stream.Read(&request)) return upload->Finish();
      if (!request.has_chunk()) return OutOfTurn("a message that is no chunk before the last byte");
      CCOE_RETURN_IF_ERROR(upload->Append(request.chunk()));
    }
    absl::StatusOr<Arrived> arrived = Load(upload->folder(), header.package_digest());
    if (!arrived.ok()) return upload->WithoutFolder(arrived.status());
    return arrived;
  }

  absl::StatusOr<Arrived> Load(const std::string& folder, const std::string& digest) const {
    CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const model::ExpertPackage> package,
                          model::ExpertPackage::Load(folder));
    if (package->digest() != digest) {
      return absl::DataLossError(absl::StrCat("the package changed on its way: ", package->digest(),
                                              " arrived, not ", digest));
    }
    CCOE_RETURN_IF_ERROR(package->CheckAgainst(*options_.model));
    const model::ExpertManifest& manifest = package->manifest();
    if (manifest.attach_depth < options_.layer_begin) {
      return base::MakeError(
          base::Reason::kModelMismatch,
          absl::StrCat("expert ", manifest.name, " attaches at layer ", manifest.attach_depth,
                       "; this process has layers from ", options_.layer_begin));
    }
    const internal::v1::ExpertDescription description =
        rpc::DescribePackage(*options_.engine, *package);
    CCOE_RETURN_IF_ERROR(options_.links->CheckFed(description, BaseWith(manifest)));
    return Arrived{std::move(package), description};
  }

  // From where the engine has base layers once it has the package: an adapter brings them along.
  int BaseWith(const model::ExpertManifest& manifest) const {
    if (manifest.kind == model::ExpertKind::kLora) return options_.layer_begin;
    base::MutexLock lock(&mutex_);
    return base_begin_;
  }
  int TakeBase(const model::ExpertManifest& manifest) {
    const int base_begin = BaseWith(manifest);
    base::MutexLock lock(&mutex_);
    return base_begin_ = base_begin;
  }

  const PackageServiceOptions options_;
  mutable base::Mutex mutex_;
  int base_begin_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<grpc::Service> NewPackageService(PackageServiceOptions options) {
  return std::make_unique<PackageService>(std::move(options));
}

}  // namespace ccoe::expert
