#include "common/compute/cpu/weight_arena.h"

#include <sys/mman.h>

#include <cstdint>
#include <limits>

namespace ccoe::compute::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kCacheLine = 64;

// A mapping of its own, aligned to huge pages.
std::shared_ptr<std::byte> Map(size_t bytes) {
  if (bytes > std::numeric_limits<size_t>::max() - 2 * kHugePage) return nullptr;
  const size_t mapped = (bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  madvise(base, mapped, MADV_HUGEPAGE);  // a hint: small pages are as correct
  const auto address = reinterpret_cast<uintptr_t>(base);
  const size_t skip = (kHugePage - address % kHugePage) % kHugePage;
  return {static_cast<std::byte*>(base) + skip,
          [base, mapped](std::byte*) { munmap(base, mapped); }};
}

}  // namespace

std::shared_ptr<std::byte> WeightArena::Allocate(size_t bytes) {
  if (bytes > kChunkBytes / 2) return Map(bytes);
  const size_t size = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  base::MutexLock lock(&mutex_);
  if (chunk_ == nullptr || used_ + size > kChunkBytes) {
    chunk_ = Map(kChunkBytes);
    used_ = 0;
    if (chunk_ == nullptr) return nullptr;
  }
  std::shared_ptr<std::byte> part(chunk_, chunk_.get() + used_);
  used_ += size;
  return part;
}

}  // namespace ccoe::compute::cpu
