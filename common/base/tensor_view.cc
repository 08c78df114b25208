#include "common/base/tensor_view.h"

#include <array>

namespace ccoe::base {
namespace {

constexpr std::array<DTypeInfo, 11> kInfo = {{
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"q8_0", 32, 34},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q5_1", 32, 24},
    {"q4_k", 256, 144},
    {"q5_k", 256, 176},
    {"q6_k", 256, 210},
}};

}  // namespace

const DTypeInfo& InfoOf(DType dtype) { return kInfo[static_cast<size_t>(dtype)]; }

std::optional<size_t> TensorView::RowBytes() const {
  const DTypeInfo& info = InfoOf(dtype);
  if (cols < 0 || cols % info.block_elements != 0) return std::nullopt;
  return static_cast<size_t>(cols / info.block_elements) * static_cast<size_t>(info.block_bytes);
}

absl::Span<const std::byte> TensorView::Row(int64_t row) const {
  const size_t bytes = *RowBytes();
  return data.subspan(static_cast<size_t>(row) * bytes, bytes);
}

}  // namespace ccoe::base
