#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "common/model/text.h"

namespace ccoe::model {

// INVALID_ARGUMENT "<where>: <what>...": `where` names the file, or the file and the place in it.
template <typename... Parts>
absl::Status Damaged(std::string_view where, const Parts&... what) {
  return absl::InvalidArgumentError(Cat(where, ": ", what...));
}

// UNIMPLEMENTED "<where>: <what>...", for well-formed files that ask for what is not supported.
template <typename... Parts>
absl::Status Unsupported(std::string_view where, const Parts&... what) {
  return absl::UnimplementedError(Cat(where, ": ", what...));
}

// The same code, with `where` before the message.
inline absl::Status At(std::string_view where, const absl::Status& status) {
  return absl::Status(status.code(), Cat(where, ": ", status.message()));
}

}  // namespace ccoe::model
