#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/compute/device.h"

namespace ccoe::compute {

std::string_view ArithmeticName(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kExact ? "exact" : "i8b32.v2";
}

absl::StatusOr<Arithmetic> ParseArithmetic(std::string_view name) {
  for (const Arithmetic arithmetic : {Arithmetic::kExact, Arithmetic::kI8B32}) {
    if (name == ArithmeticName(arithmetic)) return arithmetic;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown arithmetic '", std::string(name),
                   "'; known are: ", std::string(ArithmeticName(Arithmetic::kExact)), ", ",
                   std::string(ArithmeticName(Arithmetic::kI8B32))));
}

}  // namespace ccoe::compute
