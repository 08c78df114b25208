#pragma once

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"

namespace ccoe::rpc {

inline google::protobuf::Duration ToProto(absl::Duration value) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::IDivDuration(value, absl::Seconds(1), &value));
  proto.set_nanos(static_cast<int>(absl::ToInt64Nanoseconds(value)));
  return proto;
}

inline absl::Duration FromProto(const google::protobuf::Duration& proto) {
  return absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
}

}  // namespace ccoe::rpc
