#include "common/model/tensor_compare.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "common/base/check.h"
#include "common/base/half.h"

namespace ccoe::model {
namespace {

using base::DType;
using base::TensorView;

constexpr size_t kChunk = 4096;  // values

size_t ValueCount(const TensorView& tensor) {
  return static_cast<size_t>(tensor.rows) * static_cast<size_t>(tensor.cols);
}

void Widen(const TensorView& tensor, size_t begin, absl::Span<float> out) {
  if (tensor.dtype == DType::kF32) {
    std::memcpy(out.data(), tensor.data.data() + begin * sizeof(float), out.size() * sizeof(float));
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, tensor.data.data() + (begin + i) * sizeof(bits), sizeof(bits));
    out[i] = tensor.dtype == DType::kF16 ? base::HalfToFloat(bits) : base::Bf16ToFloat(bits);
  }
}

// Calls `visit(a's values, b's values)` chunk by chunk while it returns true.
template <typename Visit>
bool ForEachChunk(const TensorView& a, const TensorView& b, const Visit& visit) {
  std::array<float, kChunk> left, right;
  for (size_t begin = 0, count = ValueCount(a); begin < count; begin += kChunk) {
    const size_t size = std::min(kChunk, count - begin);
    const absl::Span<float> x(left.data(), size), y(right.data(), size);
    Widen(a, begin, x);
    Widen(b, begin, y);
    if (!visit(absl::Span<const float>(x), absl::Span<const float>(y))) return false;
  }
  return true;
}

bool SameShape(const TensorView& a, const TensorView& b) {
  return a.rows == b.rows && a.cols == b.cols;
}

}  // namespace

bool IsFloat(const TensorView& tensor) { return base::InfoOf(tensor.dtype).block_elements == 1; }

bool SameValues(const TensorView& a, const TensorView& b) {
  CCOE_CHECK(IsFloat(a) && IsFloat(b));
  if (!SameShape(a, b)) return false;
  if (a.dtype == b.dtype) return std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0;
  return ForEachChunk(a, b, [](absl::Span<const float> x, absl::Span<const float> y) {
    return std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  });
}

double RelativeDistance(const TensorView& a, const TensorView& b) {
  CCOE_CHECK(SameShape(a, b));
  if (SameValues(a, b)) return 0;
  double difference = 0, of_a = 0, of_b = 0;
  ForEachChunk(a, b, [&](absl::Span<const float> x, absl::Span<const float> y) {
    for (size_t i = 0; i < x.size(); ++i) {
      const double u = x[i], v = y[i];
      difference += (u - v) * (u - v);
      of_a += u * u;
      of_b += v * v;
    }
    return true;
  });
  const double larger = std::max(of_a, of_b);
  if (!std::isfinite(difference) || !std::isfinite(larger)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return difference == 0 ? 0 : std::sqrt(difference / larger);
}

}  // namespace ccoe::model
