#include "services/router/node_push.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "ccoe/internal/v1/packages.grpc.pb.h"
#include "common/base/status_macros.h"
#include "common/rpc/channel.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/status.h"

namespace ccoe::router {
namespace {

using internal::v1::PackageService;
using internal::v1::PushPackageRequest;
using internal::v1::PushPackageResponse;

constexpr int64_t kChunkBytes = 256 << 10;

// With the address in front.
absl::Status At(const std::string& address, const absl::Status& status) {
  if (status.ok()) return status;
  absl::Status named(status.code(),
                     absl::StrCat("expert process ", address, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { named.SetPayload(type, payload); });
  return named;
}

absl::StatusOr<internal::v1::PackageHeader> HeaderOf(const model::ExpertPackage& package) {
  internal::v1::PackageHeader header;
  header.set_package_digest(package.digest());
  for (const std::string& name : model::PackageFiles(package.manifest())) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(absl::StrCat(package.folder(), "/", name), error);
    if (error) return absl::ErrnoToStatus(error.value(), name);
    internal::v1::PackageFile& file = *header.add_files();
    file.set_name(name);
    file.set_bytes(static_cast<int64_t>(bytes));
  }
  return header;
}

}  // namespace

// In the order of construction: the context goes before the channel.
struct NodePush::Call {
  Call(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials)
      : stub(PackageService::NewStub(rpc::MakeChannel(address, credentials))) {}

  const std::unique_ptr<PackageService::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<PushPackageRequest, PushPackageResponse>> stream;
};

NodePush::NodePush(std::string address,
                   const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                   absl::Time deadline)
    : address_(std::move(address)), call_(std::make_unique<Call>(address_, credentials)) {
  call_->context.set_deadline(absl::ToChronoTime(deadline));
}

NodePush::~NodePush() {
  if (call_->stream == nullptr) return;
  call_->context.TryCancel();
  call_->stream->Finish();
}

absl::Status NodePush::Send(const model::ExpertPackage& package, Purpose purpose) {
  return At(address_, SendFiles(package, purpose));
}

absl::Status NodePush::SendFiles(const model::ExpertPackage& package, Purpose purpose) {
  PushPackageRequest request;
  CCOE_ASSIGN_OR_RETURN(*request.mutable_header(), HeaderOf(package));
  request.mutable_header()->set_validate_only(purpose == Purpose::kCheck);
  const internal::v1::PackageHeader header = request.header();
  call_->stream = call_->stub->PushPackage(&call_->context);
  if (!call_->stream->Write(request)) return End();
  for (const internal::v1::PackageFile& file : header.files()) {
    std::ifstream in(absl::StrCat(package.folder(), "/", file.name()), std::ios::binary);
    for (int64_t left = file.bytes(); left > 0;) {
      std::string& chunk = *request.mutable_chunk();
      chunk.resize(static_cast<size_t>(std::min(left, kChunkBytes)));
      if (!in.read(chunk.data(), static_cast<std::streamsize>(chunk.size()))) {
        return absl::DataLossError(absl::StrCat("cannot read all of ", file.name()));
      }
      left -= static_cast<int64_t>(chunk.size());
      if (!call_->stream->Write(request)) return End();
    }
  }
  PushPackageResponse response;
  return call_->stream->Read(&response) ? absl::OkStatus() : End();
}

absl::Status NodePush::Commit() {
  PushPackageRequest request;
  request.mutable_commit();
  PushPackageResponse response;
  if (!call_->stream->Write(request) || !call_->stream->Read(&response)) {
    return At(address_, End());
  }
  call_->stream->Finish();
  call_->stream = nullptr;
  return absl::OkStatus();
}

absl::Status NodePush::End() {
  const grpc::Status status = call_->stream->Finish();
  call_->stream = nullptr;
  if (status.ok()) return absl::InternalError("it ended the push without an answer");
  return rpc::FromGrpcStatus(status);
}

absl::StatusOr<absl::Duration> PopAt(const std::string& address,
                                     const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                     const runtime::ExpertKey& expert, absl::Time deadline) {
  const auto stub = PackageService::NewStub(rpc::MakeChannel(address, credentials));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  internal::v1::PopPackageRequest request;
  request.mutable_expert()->set_name(expert.name);
  request.mutable_expert()->set_version(expert.version);
  internal::v1::PopPackageResponse response;
  const absl::Status status = rpc::FromGrpcStatus(stub->PopPackage(&context, request, &response));
  if (!status.ok()) return At(address, status);
  return rpc::FromProto(response.linger());
}

}  // namespace ccoe::router
