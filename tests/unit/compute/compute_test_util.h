#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/base/half.h"
#include "common/base/tensor_view.h"
#include "common/compute/cpu/block_format.h"
#include "common/compute/device.h"
#include "gtest/gtest.h"

namespace ccoe::compute {

inline constexpr base::DType kAllTypes[] = {
    base::DType::kF32,  base::DType::kF16,  base::DType::kBF16, base::DType::kQ8_0,
    base::DType::kQ4_0, base::DType::kQ4_1, base::DType::kQ5_0, base::DType::kQ5_1,
    base::DType::kQ4_K, base::DType::kQ5_K, base::DType::kQ6_K};

inline std::vector<float> RandomFloats(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

// As a model's activations: few values are far larger than the others.
inline std::vector<float> RandomActivations(size_t n, uint32_t seed) {
  std::vector<float> values = RandomFloats(n, seed);
  for (size_t i = seed; i < n; i += 389) values[i] *= 60;
  return values;
}

// A tensor of random bytes with sane scales, and what it holds.
struct TestTensor {
  std::vector<std::byte> bytes;
  base::TensorView view;
  std::vector<float> values;  // dequantised
};

// Byte offsets of the float16 numbers in one block of a quantised format.
inline std::vector<int> HalfOffsets(base::DType dtype) {
  switch (dtype) {
    case base::DType::kQ8_0:
    case base::DType::kQ4_0:
    case base::DType::kQ5_0:
      return {0};
    case base::DType::kQ6_K:
      return {208};
    default:
      return {0, 2};
  }
}

inline TestTensor RandomTensor(base::DType dtype, int rows, int cols, uint32_t seed) {
  TestTensor t;
  t.view = {dtype, rows, cols, {}};
  const size_t row_bytes = *t.view.RowBytes();
  t.bytes.resize(static_cast<size_t>(rows) * row_bytes);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> scale(0.001f, 0.02f);
  const auto& info = base::InfoOf(dtype);
  if (info.block_elements == 1) {
    const auto values = RandomFloats(static_cast<size_t>(rows) * static_cast<size_t>(cols), seed);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t half = dtype == base::DType::kF16
                                ? base::FloatToHalf(values[i])
                                : static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16);
      const void* from = dtype == base::DType::kF32 ? static_cast<const void*>(&values[i]) : &half;
      std::memcpy(&t.bytes[i * static_cast<size_t>(info.block_bytes)], from,
                  static_cast<size_t>(info.block_bytes));
    }
  } else {
    for (std::byte& b : t.bytes) b = static_cast<std::byte>(random());
    for (size_t at = 0; at < t.bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
      for (const int offset : HalfOffsets(dtype)) {
        const uint16_t half = base::FloatToHalf(random() % 2 == 0 ? scale(random) : -scale(random));
        std::memcpy(&t.bytes[at + static_cast<size_t>(offset)], &half, sizeof(half));
      }
    }
  }
  t.view.data = t.bytes;
  t.values.resize(static_cast<size_t>(rows) * static_cast<size_t>(cols));
  for (int r = 0; r < rows; ++r) {
    cpu::DequantizeRow(dtype, t.view.Row(r).data(), cols,
                       &t.values[static_cast<size_t>(r) * static_cast<size_t>(cols)]);
  }
  return t;
}

inline std::unique_ptr<Device> MakeDevice(CpuKernels kernels, Arithmetic arithmetic, int threads) {
  CpuOptions options;
  options.kernels = kernels;
  options.arithmetic = arithmetic;
  options.threads = threads;
  options.spin_us = 0;
  auto device = NewCpuDevice(options);
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

// Host values on a device.
inline std::unique_ptr<Buffer> ToDevice(Device& device, const std::vector<float>& values) {
  auto buffer = *device.Allocate(values.size());
  device.Upload(values, buffer->AsTensor(1, static_cast<int>(values.size())));
  return buffer;
}

inline std::vector<float> FromDevice(Device& device, Tensor tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.rows) * static_cast<size_t>(tensor.cols));
  device.Download(tensor, absl::MakeSpan(values));
  return values;
}

// Equal bits, any NaN being like any other.
inline ::testing::AssertionResult SameBits(const std::vector<float>& a,
                                           const std::vector<float>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return ::testing::AssertionFailure() << "value " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

inline std::string TypeName(base::DType dtype) { return std::string(base::InfoOf(dtype).name); }

inline std::string KernelsName(CpuKernels kernels) {
  std::string name(CpuKernelsName(kernels));
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

}  // namespace ccoe::compute
