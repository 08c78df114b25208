#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/config.pb.h"
#include "ccoe/v1/admin_service.pb.h"
#include "ccoe/v1/catalog_service.pb.h"
#include "ccoe/v1/generation_service.pb.h"
#include "common/base/mutex.h"

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace ccoe::cli {

using VersionList = google::protobuf::RepeatedPtrField<v1::ExpertVersion>;

// Ends calls from any thread, those under way and those to come. Thread-safe.
class Cancellation {
 public:
  void Cancel();
  bool cancelled() const;

 private:
  friend class CancellableCall;
  mutable base::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

// The public API as blocking calls. Statuses of failed calls are those of FromCall
// (call_status.h). Calls show the key, unless it is empty. Thread-safe.
class Client {
 public:
  explicit Client(std::shared_ptr<grpc::Channel> channel, const std::string& api_key = "");
  // A client of the server at `address`, "host:port", over TLS or, with `tls` unset, in plaintext;
  // connects with the first call.
  static std::unique_ptr<Client> ForAddress(const std::string& address,
                                            const internal::v1::TlsConfig& tls,
                                            const std::string& api_key = "");
  ~Client();

  // Calls `on_event` for each event, on this thread; when it returns false the call is cancelled.
  // CANCELLED after Cancel.
  absl::Status GenerateStream(
      const v1::GenerateRequest& request, absl::Duration timeout,
      const std::function<bool(const v1::GenerateStreamResponse&)>& on_event,
      Cancellation* cancellation);
  absl::StatusOr<v1::RouteResponse> Route(const v1::RouteRequest& request, absl::Duration timeout,
                                          Cancellation* cancellation);
  absl::StatusOr<v1::ListExpertsResponse> ListExperts(const v1::ListExpertsRequest& request,
                                                      absl::Duration timeout);
  // Of an admin port.
  absl::StatusOr<v1::PushExpertResponse> PushExpert(const v1::PushExpertRequest& request,
                                                    absl::Duration timeout);
  // Sends those files of `folder`; tells the part that is sent, in [0, 1].
  absl::StatusOr<v1::PushExpertResponse> UploadExpert(const std::string& folder,
                                                      const v1::UploadHeader& header,
                                                      absl::Duration timeout,
                                                      const std::function<void(double)>& progress);
  absl::StatusOr<v1::Expert> PopExpert(const std::string& name, const std::string& version,
                                       absl::Duration timeout);
  absl::StatusOr<VersionList> SetTraffic(const v1::SetTrafficRequest& request,
                                         absl::Duration timeout);
  absl::StatusOr<VersionList> ListVersions(const std::string& domain, absl::Duration timeout);
  // The model and the server of the channel's other end.
  absl::StatusOr<v1::ModelInfo> GetModel(absl::Duration timeout);
  // grpc.health.v1: true when `service` ("" for the server as a whole) is serving. NOT_FOUND for an
  // unknown service.
  absl::StatusOr<bool> IsServing(const std::string& service, absl::Duration timeout);

 private:
  struct Stubs;
  std::unique_ptr<Stubs> stubs_;
  const std::string authorization_;  // empty: none
};

}  // namespace ccoe::cli
