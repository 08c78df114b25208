#include "common/compute/cpu/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/half.h"
#include "common/base/status_macros.h"

namespace ccoe::compute::cpu {
namespace {

using base::DType;

// The layout of a quantised format, as numbers.
struct Layout {
  BlockFormat format;
  size_t scale_bytes = 0;
  size_t header_bytes = 0;
  size_t block_bytes = 0;
};

template <DType F>
constexpr Layout kLayout = {FormatOf(F), ScaleBytesOf(F), HeaderBytesOf(F), PackedBlockBytesOf(F)};

const Layout& LayoutOf(DType dtype) {
  static constexpr std::array<Layout, 11> kLayouts = {
      Layout{},
      Layout{},
      Layout{},
      kLayout<DType::kQ8_0>,
      kLayout<DType::kQ4_0>,
      kLayout<DType::kQ4_1>,
      kLayout<DType::kQ5_0>,
      kLayout<DType::kQ5_1>,
      kLayout<DType::kQ4_K>,
      kLayout<DType::kQ5_K>,
      kLayout<DType::kQ6_K>,
  };
  return kLayouts[static_cast<size_t>(dtype)];
}

// What a kernel may read behind a float matrix: the lanes that its last panel lacks.
constexpr size_t kReadBehind = kPanelRows * sizeof(float);

size_t FloatBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

void WriteScale(const Layout& layout, std::byte* at, int lane, float wide, uint16_t narrow) {
  if (layout.format.wide_scales) {
    std::memcpy(at + 4 * lane, &wide, sizeof(wide));
  } else {
    std::memcpy(at + 2 * lane, &narrow, sizeof(narrow));
  }
}

float ReadScale(const Layout& layout, const std::byte* at, int lane) {
  if (layout.format.wide_scales) {
    float wide;
    std::memcpy(&wide, at + 4 * lane, sizeof(wide));
    return wide;
  }
  uint16_t narrow;
  std::memcpy(&narrow, at + 2 * lane, sizeof(narrow));
  return base::HalfToFloat(narrow);
}

void WriteBlock(const Layout& layout, const DecodedBlock& block, int lane, std::byte* to) {
  std::byte* at = to;
  for (int i = 0; i < layout.format.scales; ++i, at += layout.scale_bytes) {
    WriteScale(layout, at, lane, block.scale[i], block.scale_f16);
  }
  if (layout.format.has_min) WriteScale(layout, at, lane, block.min, block.min_f16);
  std::byte* weights = to + layout.header_bytes + 4 * lane;
  if (layout.format.bits == 8) {
    for (int g = 0; g < 8; ++g) std::memcpy(weights + 64 * g, block.u + 4 * g, 4);
    return;
  }
  for (int g = 0; g < 4; ++g) {
    uint32_t low;
    uint32_t high;
    std::memcpy(&low, block.u + 4 * g, 4);
    std::memcpy(&high, block.u + 4 * g + 16, 4);
    low |= high << 4;
    std::memcpy(weights + 64 * g, &low, 4);
  }
}

int WeightAt(const Layout& layout, const std::byte* block, int lane, int input) {
  const std::byte* weights = block + layout.header_bytes + 4 * lane + input % 4;
  const int group = input / 4;
  if (layout.format.bits == 8) return static_cast<int>(weights[64 * group]);
  const int both = static_cast<int>(weights[64 * (group % 4)]);
  return group < 4 ? both & 0xf : both >> 4;
}

}  // namespace

absl::Status CheckView(const base::TensorView& view) {
  const std::optional<size_t> row_bytes = view.RowBytes();
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max() - kPanelRows;
  if (view.rows <= 0 || view.cols <= 0 || view.rows > kMax || view.cols > kMax - kBlock ||
      !row_bytes.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor of ", std::string(base::InfoOf(view.dtype).name),
                     " cannot have the shape [", view.rows, ", ", view.cols, "]"));
  }
  if (view.data.size() / static_cast<size_t>(view.rows) != *row_bytes ||
      view.data.size() % static_cast<size_t>(view.rows) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor of ", std::string(base::InfoOf(view.dtype).name), " of shape [",
                     view.rows, ", ", view.cols, "] takes ", view.rows, " rows of ", *row_bytes,
                     " bytes, not ", view.data.size(), " bytes"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(const base::TensorView& weight,
                                                                 DType format, WeightArena& arena,
                                                                 ThreadPool& pool) {
  CCOE_RETURN_IF_ERROR(CheckView(weight));
  CCOE_CHECK(format == weight.dtype || format == DType::kF32 || !IsQuantized(weight.dtype));
  if (IsQuantized(format) && weight.cols % kBlock != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows of ", weight.cols, " values cannot be quantised in blocks of ", kBlock));
  }
  std::unique_ptr<PackedMatrix> matrix(new PackedMatrix());
  matrix->format_ = format;
  matrix->rows_ = static_cast<int>(weight.rows);
  matrix->cols_ = static_cast<int>(weight.cols);
  matrix->panels_ = (matrix->rows_ + kPanelRows - 1) / kPanelRows;
  matrix->blocks_ = (matrix->cols_ + kBlock - 1) / kBlock;
  if (IsQuantized(format)) {
    matrix->panel_bytes_ = static_cast<size_t>(matrix->blocks_) * LayoutOf(format).block_bytes;
    matrix->bytes_ = static_cast<size_t>(matrix->panels_) * matrix->panel_bytes_;
  } else {
    const size_t row_bytes = static_cast<size_t>(matrix->cols_) * FloatBytes(format);
    matrix->panel_bytes_ = kPanelRows * row_bytes;
    matrix->bytes_ = static_cast<size_t>(matrix->rows_) * row_bytes;
  }
  matrix->memory_ = arena.Allocate(matrix->bytes_ + kReadBehind);
  if (matrix->memory_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a weight matrix of ",
                                                     matrix->panels_, " panels of ",
                                                     matrix->panel_bytes_, " bytes"));
  }
  PackedMatrix* to = matrix.get();
  pool.ParallelFor(to->panels_, [&](int panel, int) { to->PackPanel(weight, panel); });
  return matrix;
}

void PackedMatrix::PackPanel(const base::TensorView& weight, int panel) {
  if (!IsQuantized(format_)) {
    PackFloatPanel(weight, panel);
  } else if (weight.dtype == format_) {
    PackQuantizedPanel(weight, panel);
  } else {
    QuantizePanel(weight, panel);
  }
}

void PackedMatrix::PackQuantizedPanel(const base::TensorView& weight, int panel) {
  const Layout& layout = LayoutOf(format_);
  std::byte* to = memory_.get() + static_cast<size_t>(panel) * panel_bytes_;
  const int rows = PanelOutputs(rows_, panel);
  DecodedBlock block;
  for (int lane = 0; lane < rows; ++lane) {
    const std::byte* row = weight.Row(panel * kPanelRows + lane).data();
    for (int b = 0; b < blocks_; ++b) {
      DecodeBlock(weight.dtype, row, static_cast<size_t>(b), &block);
      WriteBlock(layout, block, lane, to + static_cast<size_t>(b) * layout.block_bytes);
    }
  }
}

void PackedMatrix::QuantizePanel(const base::TensorView& weight, int panel) {
  const Layout& layout = LayoutOf(format_);
  std::byte* to = memory_.get() + static_cast<size_t>(panel) * panel_bytes_;
  const int rows = PanelOutputs(rows_, panel);
  std::vector<float> values(static_cast<size_t>(cols_));
  DecodedBlock block;
  for (int lane = 0; lane < rows; ++lane) {
    DequantizeRow(weight.dtype, weight.Row(panel * kPanelRows + lane).data(), cols_, values.data());
    for (int b = 0; b < blocks_; ++b) {
      QuantizeBlock(format_, values.data() + static_cast<ptrdiff_t>(b) * kBlock, &block);
      WriteBlock(layout, block, lane, to + static_cast<size_t>(b) * layout.block_bytes);
    }
  }
}

void PackedMatrix::PackFloatPanel(const base::TensorView& weight, int panel) {
  std::byte* to = memory_.get() + static_cast<size_t>(panel) * panel_bytes_;
  const int rows = PanelOutputs(rows_, panel);
  const size_t size = FloatBytes(format_);
  const size_t stride = size * static_cast<size_t>(rows);
  std::vector<float> dequantized(weight.dtype == format_ ? 0 : static_cast<size_t>(cols_));
  for (int lane = 0; lane < rows; ++lane) {
    const std::byte* row = weight.Row(panel * kPanelRows + lane).data();
    if (!dequantized.empty()) {
      DequantizeRow(weight.dtype, row, cols_, dequantized.data());
      row = reinterpret_cast<const std::byte*>(dequantized.data());
    }
    std::byte* lane_to = to + static_cast<size_t>(lane) * size;
    for (size_t i = 0; i < static_cast<size_t>(cols_); ++i) {
      std::memcpy(lane_to + i * stride, row + i * size, size);
    }
  }
}

void PackedMatrix::ReadRow(int row, float* out) const {
  const int lane = row % kPanelRows;
  const std::byte* panel = data() + static_cast<size_t>(row / kPanelRows) * panel_bytes_;
  if (!IsQuantized(format_)) {
    const size_t size = FloatBytes(format_);
    const auto lanes = static_cast<size_t>(PanelOutputs(rows_, row / kPanelRows));
    for (int i = 0; i < cols_; ++i) {
      const size_t index = static_cast<size_t>(i) * lanes + static_cast<size_t>(lane);
      DequantizeRow(format_, panel + index * size, 1, out + i);
    }
    return;
  }
  const Layout& layout = LayoutOf(format_);
  const int offset = OffsetOf(format_);
  for (int b = 0; b < blocks_; ++b) {
    const std::byte* block = panel + static_cast<size_t>(b) * layout.block_bytes;
    const std::byte* min_at =
        block + static_cast<size_t>(layout.format.scales) * layout.scale_bytes;
    const float min = layout.format.has_min ? ReadScale(layout, min_at, lane) : 0.0f;
    for (int i = 0; i < kBlock; ++i) {
      const std::byte* scale_at =
          block + (layout.format.scales == 2 && i >= 16 ? layout.scale_bytes : size_t{0});
      const float scale = ReadScale(layout, scale_at, lane);
      const float product = static_cast<float>(WeightAt(layout, block, lane, i) - offset) * scale;
      *out++ = layout.format.has_min ? product + min : product;
    }
  }
}

}  // namespace ccoe::compute::cpu
