#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/compute/cpu/cpu_device.h"
#include "common/compute/cpu/cpu_features.h"

namespace ccoe::compute {
namespace {

constexpr int kMaxThreads = 1024;
constexpr std::chrono::microseconds kSpin(50);

}  // namespace

std::string_view CpuKernelsName(CpuKernels kernels) {
  switch (kernels) {
    case CpuKernels::kAuto:
      return "auto";
    case CpuKernels::kScalar:
      return "scalar";
    case CpuKernels::kAvx2:
      return "avx2";
    case CpuKernels::kAvx512Vnni:
      return "avx512-vnni";
    case CpuKernels::kAmx:
      return "amx";
  }
  return "unknown";
}

std::vector<CpuKernels> SupportedCpuKernels() { return cpu::SupportedKernels(); }

absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const CpuOptions& options) {
  const std::vector<CpuKernels> supported = SupportedCpuKernels();
  const CpuKernels kernels =
      options.kernels == CpuKernels::kAuto ? supported.back() : options.kernels;
  if (std::find(supported.begin(), supported.end(), kernels) == supported.end()) {
    const auto name = [](std::string* out, CpuKernels k) { out->append(CpuKernelsName(k)); };
    return absl::FailedPreconditionError(
        absl::StrCat("this CPU does not run the kernels ", std::string(CpuKernelsName(kernels)),
                     "; it runs: ", absl::StrJoin(supported, ", ", name)));
  }
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads must be in [0, ", kMaxThreads, "], not ", options.threads));
  }
  const int cores = cpu::AvailableCores();
  const int threads = options.threads == 0 ? std::min(cores, kMaxThreads) : options.threads;
  auto spin = threads <= cores ? kSpin : std::chrono::microseconds(0);
  if (options.spin_us >= 0) spin = std::chrono::microseconds(options.spin_us);
  return std::make_unique<cpu::CpuDevice>(options.arithmetic, cpu::KernelsOf(kernels), threads,
                                          spin);
}

}  // namespace ccoe::compute
