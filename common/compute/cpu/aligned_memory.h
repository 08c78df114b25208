#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace ccoe::compute::cpu {

// Zeroed memory aligned to a cache line, freed with its owner. Large regions take physical memory
// only where they are written.
class AlignedMemory {
 public:
  static constexpr size_t kAlignment = 64;

  AlignedMemory() = default;
  // data() is null when there is no memory.
  explicit AlignedMemory(size_t bytes) {
    if (bytes > SIZE_MAX - kAlignment) return;
    raw_ = std::calloc(bytes + kAlignment, 1);
    if (raw_ == nullptr) return;
    const auto address = reinterpret_cast<uintptr_t>(raw_);
    data_ = static_cast<std::byte*>(raw_) + (kAlignment - address % kAlignment) % kAlignment;
    bytes_ = bytes;
  }
  ~AlignedMemory() { std::free(raw_); }
  AlignedMemory(AlignedMemory&& other) noexcept { *this = std::move(other); }
  AlignedMemory& operator=(AlignedMemory&& other) noexcept {
    std::swap(raw_, other.raw_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* raw_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ccoe::compute::cpu
