#include "common/rpc/status.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/rpc/proto_time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ccoe::rpc {
namespace {

// Trailers larger than 8 KiB are refused by peers.
constexpr size_t kMaxMessageBytes = 2048;
constexpr size_t kMaxMetadataBytes = 1024;

absl::string_view View(const std::string& text) { return {text.data(), text.size()}; }

}  // namespace

google::rpc::Status ToStatusProto(const absl::Status& status) {
  google::rpc::Status proto;
  if (status.ok()) return proto;
  const base::ErrorDetails details = base::DetailsOf(status);
  const base::ErrorEntry& entry = base::EntryOf(base::ReasonOf(status));
  proto.set_code(static_cast<int>(status.code()));
  proto.set_message(std::string(status.message().substr(0, kMaxMessageBytes)));
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(entry.name));
  info.set_domain(kErrorDomain);
  size_t bytes = 0;
  for (const auto& [key, value] : details.metadata) {
    bytes += key.size() + value.size();
    if (bytes > kMaxMetadataBytes) break;
    (*info.mutable_metadata())[key] = value;
  }
  proto.add_details()->PackFrom(info);
  if (details.retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    *retry.mutable_retry_delay() = ToProto(*details.retry_after);
    proto.add_details()->PackFrom(retry);
  }
  return proto;
}

absl::Status FromStatusProto(const google::rpc::Status& proto) {
  if (proto.code() == 0) return absl::OkStatus();
  const auto code = proto.code() >= 1 && proto.code() <= 16
                        ? static_cast<absl::StatusCode>(proto.code())
                        : absl::StatusCode::kUnknown;
  std::optional<base::Reason> reason;
  base::ErrorDetails details;
  for (const google::protobuf::Any& any : proto.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info) && info.domain() == kErrorDomain) {
      reason = base::ReasonByName(info.reason());
      for (const auto& [key, value] : info.metadata()) details.metadata.emplace_back(key, value);
    } else if (any.UnpackTo(&retry)) {
      details.retry_after = FromProto(retry.retry_delay());
    }
  }
  absl::Status plain(code, View(proto.message()));
  const base::Reason known = reason.value_or(base::ReasonOf(plain));
  if (base::EntryOf(known).code != code) return plain;
  return base::MakeError(known, proto.message(), details);
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status proto = ToStatusProto(status);
  return grpc::Status(static_cast<grpc::StatusCode>(proto.code()), proto.message(),
                      proto.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status proto;
  if (status.error_details().empty() || !proto.ParseFromString(status.error_details()) ||
      proto.code() != static_cast<int>(status.error_code())) {
    proto.Clear();
    proto.set_code(static_cast<int>(status.error_code()));
  }
  proto.set_message(status.error_message());
  return FromStatusProto(proto);
}

void AddErrorTrailers(const absl::Status& status, grpc::ServerContextBase& context) {
  if (status.ok()) return;
  if (const auto after = base::DetailsOf(status).retry_after; after.has_value()) {
    context.AddTrailingMetadata(kPushbackKey, absl::StrCat(absl::ToInt64Milliseconds(*after)));
  } else if (base::EntryOf(base::ReasonOf(status)).retry != base::Retry::kLater) {
    context.AddTrailingMetadata(kPushbackKey, "-1");
  }
}

}  // namespace ccoe::rpc
