#pragma once

#include <cstddef>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace ccoe::model {

// Takes bytes, one piece after another.
using ByteSink = std::function<absl::Status(absl::Span<const std::byte>)>;

}  // namespace ccoe::model
