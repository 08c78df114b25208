#include "services/cli/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/admin_service.grpc.pb.h"
#include "ccoe/v1/catalog_service.grpc.pb.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/rpc/tls.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "services/cli/call_status.h"

namespace ccoe::cli {

namespace {

constexpr int64_t kUploadChunk = 1 << 20;

}  // namespace

void Cancellation::Cancel() {
  base::MutexLock lock(&mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

bool Cancellation::cancelled() const {
  base::MutexLock lock(&mutex_);
  return cancelled_;
}

// A call's context while a Cancellation knows it.
class CancellableCall {
 public:
  CancellableCall(const std::string& authorization, absl::Duration timeout,
                  Cancellation* cancellation)
      : cancellation_(cancellation) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    if (!authorization.empty()) context_.AddMetadata("authorization", authorization);
    if (cancellation_ == nullptr) return;
    base::MutexLock lock(&cancellation_->mutex_);
    cancellation_->context_ = &context_;
    if (cancellation_->cancelled_) context_.TryCancel();
  }
  ~CancellableCall() {
    if (cancellation_ == nullptr) return;
    base::MutexLock lock(&cancellation_->mutex_);
    cancellation_->context_ = nullptr;
  }
  CancellableCall(const CancellableCall&) = delete;
  CancellableCall& operator=(const CancellableCall&) = delete;

  grpc::ClientContext* context() { return &context_; }

 private:
  Cancellation* const cancellation_;
  grpc::ClientContext context_;
};

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : admin(channel),
        generation(channel),
        catalog(channel),
        health(grpc::health::v1::Health::NewStub(channel)) {}

  v1::AdminService::Stub admin;
  v1::GenerationService::Stub generation;
  v1::CatalogService::Stub catalog;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

Client::Client(std::shared_ptr<grpc::Channel> channel, const std::string& api_key)
    : stubs_(std::make_unique<Stubs>(channel)),
      authorization_(api_key.empty() ? "" : absl::StrCat("Bearer ", api_key)) {}

Client::~Client() = default;

std::unique_ptr<Client> Client::ForAddress(const std::string& address,
                                           const internal::v1::TlsConfig& tls,
                                           const std::string& api_key) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix("ccoe-cli");
  return std::make_unique<Client>(
      grpc::CreateCustomChannel(address, rpc::PeerCredentials(tls), arguments), api_key);
}

absl::Status Client::GenerateStream(
    const v1::GenerateRequest& request, absl::Duration timeout,
    const std::function<bool(const v1::GenerateStreamResponse&)>& on_event,
    Cancellation* cancellation) {
  CancellableCall call(authorization_, timeout, cancellation);
  const auto reader = stubs_->generation.GenerateStream(call.context(), request);
  v1::GenerateStreamResponse event;
  bool wanted = true;
  while (reader->Read(&event)) {
    if (!wanted || on_event(event)) continue;
    wanted = false;
    call.context()->TryCancel();
  }
  return FromCall(reader->Finish());
}

absl::StatusOr<v1::RouteResponse> Client::Route(const v1::RouteRequest& request,
                                                absl::Duration timeout,
                                                Cancellation* cancellation) {
  CancellableCall call(authorization_, timeout, cancellation);
  v1::RouteResponse response;
  const grpc::Status status = stubs_->generation.Route(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return response;
}

absl::StatusOr<v1::ListExpertsResponse> Client::ListExperts(const v1::ListExpertsRequest& request,
                                                            absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::ListExpertsResponse response;
  const grpc::Status status = stubs_->catalog.ListExperts(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return response;
}

absl::StatusOr<v1::PushExpertResponse> Client::PushExpert(const v1::PushExpertRequest& request,
                                                          absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::PushExpertResponse response;
  const grpc::Status status = stubs_->admin.PushExpert(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return response;
}

absl::StatusOr<v1::PushExpertResponse> Client::UploadExpert(
    const std::string& folder, const v1::UploadHeader& header, absl::Duration timeout,
    const std::function<void(double)>& progress) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::UploadExpertResponse response;
  const auto writer = stubs_->admin.UploadExpert(call.context(), &response);
  v1::UploadExpertRequest request;
  *request.mutable_header() = header;
  bool wanted = writer->Write(request);
  int64_t total = 0, sent = 0;
  for (const v1::UploadFile& file : header.files()) total += file.bytes();
  for (const v1::UploadFile& file : header.files()) {
    std::ifstream in(absl::StrCat(folder, "/", file.name()), std::ios::binary);
    for (int64_t left = file.bytes(); left > 0 && wanted;) {
      std::string& chunk = *request.mutable_chunk();
      chunk.resize(static_cast<size_t>(std::min<int64_t>(left, kUploadChunk)));
      if (!in.read(chunk.data(), static_cast<std::streamsize>(chunk.size()))) {
        call.context()->TryCancel();
        writer->Finish();
        return absl::DataLossError(absl::StrCat("cannot read all of ", folder, "/", file.name()));
      }
      left -= static_cast<int64_t>(chunk.size());
      sent += static_cast<int64_t>(chunk.size());
      wanted = writer->Write(request);
      progress(static_cast<double>(sent) / static_cast<double>(total));
    }
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!status.ok()) return FromCall(status);
  return std::move(*response.mutable_pushed());
}

absl::StatusOr<v1::Expert> Client::PopExpert(const std::string& name, const std::string& version,
                                             absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::PopExpertRequest request;
  request.set_name(name);
  request.set_version(version);
  v1::PopExpertResponse response;
  const grpc::Status status = stubs_->admin.PopExpert(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return std::move(*response.mutable_expert());
}

absl::StatusOr<VersionList> Client::SetTraffic(const v1::SetTrafficRequest& request,
                                               absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::SetTrafficResponse response;
  const grpc::Status status = stubs_->admin.SetTraffic(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return std::move(*response.mutable_versions());
}

absl::StatusOr<VersionList> Client::ListVersions(const std::string& domain,
                                                 absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::ListVersionsRequest request;
  request.set_domain(domain);
  v1::ListVersionsResponse response;
  const grpc::Status status = stubs_->admin.ListVersions(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return std::move(*response.mutable_versions());
}

absl::StatusOr<v1::ModelInfo> Client::GetModel(absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  v1::GetModelResponse response;
  const grpc::Status status = stubs_->catalog.GetModel(call.context(), {}, &response);
  if (!status.ok()) return FromCall(status);
  return std::move(*response.mutable_model());
}

absl::StatusOr<bool> Client::IsServing(const std::string& service, absl::Duration timeout) {
  CancellableCall call(authorization_, timeout, nullptr);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = stubs_->health->Check(call.context(), request, &response);
  if (!status.ok()) return FromCall(status);
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

}  // namespace ccoe::cli
