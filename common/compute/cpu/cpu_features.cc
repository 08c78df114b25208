#include "common/compute/cpu/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The one place that knows which instruction sets there are.
namespace ccoe::compute::cpu {

#if defined(__x86_64__)
namespace {

// Which register states the operating system saves (XCR0).
uint64_t EnabledStates() {
  uint32_t a;
  uint32_t b;
  uint32_t c;
  uint32_t d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return 0;
  uint32_t low;
  uint32_t high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

// Linux grants the tile registers to a process that asks for them.
bool RequestTiles() {
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXtiledata) == 0;
}

bool HasAmx() {
  constexpr uint64_t kTileStates = uint64_t{3} << 17;
  constexpr uint32_t kTile = 1u << 24;
  constexpr uint32_t kInt8 = 1u << 25;
  uint32_t a;
  uint32_t b;
  uint32_t c;
  uint32_t d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d & kTile) != 0 && (d & kInt8) != 0 && (EnabledStates() & kTileStates) == kTileStates &&
         RequestTiles();
}

// Clang's __builtin_cpu_supports has no name for it.
bool HasF16c() {
  uint32_t a;
  uint32_t b;
  uint32_t c;
  uint32_t d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

std::vector<CpuKernels> Detect() {
  std::vector<CpuKernels> sets = {CpuKernels::kScalar};
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
  if (!avx2) return sets;
  sets.push_back(CpuKernels::kAvx2);
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (!avx512) return sets;
  sets.push_back(CpuKernels::kAvx512Vnni);
  if (HasAmx()) sets.push_back(CpuKernels::kAmx);
  return sets;
}

}  // namespace

std::vector<CpuKernels> SupportedKernels() {
  static const std::vector<CpuKernels>* const kSets = new std::vector<CpuKernels>(Detect());
  return *kSets;
}

const KernelTable& KernelsOf(CpuKernels kernels) {
  switch (kernels) {
    case CpuKernels::kAvx2:
      return Avx2Kernels();
    case CpuKernels::kAvx512Vnni:
      return Avx512VnniKernels();
    case CpuKernels::kAmx:
      return AmxKernels();
    default:
      return ScalarKernels();
  }
}

#else

std::vector<CpuKernels> SupportedKernels() { return {CpuKernels::kScalar}; }

const KernelTable& KernelsOf(CpuKernels) { return ScalarKernels(); }

#endif

}  // namespace ccoe::compute::cpu
