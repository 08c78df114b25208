#pragma once

#include <vector>

#include "common/compute/cpu/kernels.h"

namespace ccoe::compute::cpu {

// The kernel sets that this CPU and its operating system run, kScalar first, the fastest last.
std::vector<CpuKernels> SupportedKernels();

// The kernels of a supported set.
const KernelTable& KernelsOf(CpuKernels kernels);

}  // namespace ccoe::compute::cpu
