#pragma once

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/model/expert_package.h"
#include "common/runtime/session.h"

namespace ccoe::router {

// A package on its way to one expert process (ccoe.internal.v1.PackageService). Calls wait for the
// process. Not thread-safe. A push that goes without its Commit leaves nothing there.
class NodePush {
 public:
  // `address` of the process, and null for plaintext; what is not done at `deadline` fails with
  // DEADLINE_EXCEEDED.
  NodePush(std::string address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
           absl::Time deadline);
  ~NodePush();
  NodePush(const NodePush&) = delete;
  NodePush& operator=(const NodePush&) = delete;

  enum class Purpose { kServe, kCheck };
  // Once: sends the files of a package and waits until the process has loaded and checked it.
  // Errors as of PushPackage, with the address; UNAVAILABLE when the process is not reached.
  absl::Status Send(const model::ExpertPackage& package, Purpose purpose);
  // Once, after a Send for kServe: the process offers the expert to its backbones.
  absl::Status Commit();

  const std::string& address() const { return address_; }

 private:
  struct Call;
  absl::Status SendFiles(const model::ExpertPackage& package, Purpose purpose);
  // Why the process ended the call.
  absl::Status End();

  const std::string address_;
  const std::unique_ptr<Call> call_;
};

// Lets an expert process give up an expert. Returns how long that still takes sessions. Errors as
// of PopPackage, with the address.
absl::StatusOr<absl::Duration> PopAt(const std::string& address,
                                     const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                     const runtime::ExpertKey& expert, absl::Time deadline);

}  // namespace ccoe::router
