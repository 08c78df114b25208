#include "common/compute/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/compute/cpu/packed_matrix.h"
#include "common/compute/cpu/rope_table.h"

namespace ccoe::compute::cpu {
namespace {

// Less work than this, in elements computed, is not worth waking another thread.
constexpr size_t kParallelElements = 8 * 1024;

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t floats) : memory_(floats * sizeof(float)) {}
  float* data() override { return memory_.as<float>(); }
  size_t bytes() const override { return memory_.bytes(); }

 private:
  AlignedMemory memory_;
};

absl::Status NoMemory(const char* what, size_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat("no memory for ", what, ": ", bytes, " bytes"));
}

size_t Elements(Tensor t) { return static_cast<size_t>(t.rows) * static_cast<size_t>(t.cols); }

// What computes as float32.
base::DType ExactFormat(base::DType dtype) {
  return IsQuantized(dtype) ? base::DType::kF32 : dtype;
}

float* Row(Tensor t, int row) { return t.Rows(row, 1).data; }

}  // namespace

std::string CpuDevice::Describe() const {
  return absl::StrCat("cpu ", std::string(CpuKernelsName(kernels_.kernels)), ", ", pool_.threads(),
                      pool_.threads() == 1 ? " thread" : " threads");
}

absl::StatusOr<std::unique_ptr<Matrix>> CpuDevice::Pack(const base::TensorView& weight) {
  return PackAs(weight, weight.dtype);
}

absl::StatusOr<std::unique_ptr<Matrix>> CpuDevice::PackAs(const base::TensorView& weight,
                                                          base::DType format) {
  if (arithmetic_ == Arithmetic::kExact) format = ExactFormat(weight.dtype);
  return PackedMatrix::Pack(weight, format, arena_, pool_);
}

absl::StatusOr<std::unique_ptr<Matrix>> CpuDevice::PackFloat(const base::TensorView& weight) {
  return PackedMatrix::Pack(weight, ExactFormat(weight.dtype), arena_, pool_);
}

absl::StatusOr<std::unique_ptr<Buffer>> CpuDevice::PackVector(const base::TensorView& vector) {
  CCOE_RETURN_IF_ERROR(CheckView(vector));
  if (vector.rows != 1 || IsQuantized(vector.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat("a vector is one row of a float format, not ",
                                                   vector.rows, " rows of ",
                                                   std::string(base::InfoOf(vector.dtype).name)));
  }
  CCOE_ASSIGN_OR_RETURN(auto buffer, Allocate(static_cast<size_t>(vector.cols)));
  DequantizeRow(vector.dtype, vector.data.data(), vector.cols, buffer->data());
  return buffer;
}

absl::StatusOr<std::unique_ptr<Buffer>> CpuDevice::Allocate(size_t floats) {
  if (floats > std::numeric_limits<size_t>::max() / 8) return NoMemory("activations", floats);
  auto buffer = std::make_unique<CpuBuffer>(floats);
  if (buffer->data() == nullptr) return NoMemory("activations", floats * sizeof(float));
  return buffer;
}

absl::StatusOr<std::unique_ptr<MatmulInput>> CpuDevice::NewMatmulInput(int max_rows, int max_cols) {
  CCOE_CHECK(max_rows > 0 && max_cols > 0);
  auto input =
      std::make_unique<CpuMatmulInput>(max_rows, max_cols, arithmetic_ == Arithmetic::kI8B32);
  if (!input->allocated()) {
    return NoMemory("the inputs of products",
                    static_cast<size_t>(max_rows) * static_cast<size_t>(max_cols));
  }
  return input;
}

absl::StatusOr<std::unique_ptr<RopeTable>> CpuDevice::NewRopeTable(
    absl::Span<const float> inverse_frequencies, int positions) {
  CCOE_CHECK(positions > 0);
  auto table = std::make_unique<CpuRopeTable>(inverse_frequencies, positions);
  if (!table->allocated()) {
    return NoMemory("the table of rotations",
                    inverse_frequencies.size() * 8 * static_cast<size_t>(positions));
  }
  return table;
}

absl::StatusOr<std::unique_ptr<KvPages>> CpuDevice::NewKvPages(const KvShape& shape,
                                                               int page_count) {
  CCOE_CHECK(shape.kv_heads > 0 && shape.head_dim > 0 && page_count >= 0);
  auto pages = std::make_unique<CpuKvPages>(shape, page_count, arithmetic_ == Arithmetic::kI8B32);
  if (!pages->allocated()) {
    return NoMemory("keys and values", static_cast<size_t>(page_count) * pages->page_bytes());
  }
  return pages;
}

void CpuDevice::Upload(absl::Span<const float> from, Tensor to) {
  CCOE_CHECK(from.size() == Elements(to));
  if (!from.empty()) std::memcpy(to.data, from.data(), from.size() * sizeof(float));
}

void CpuDevice::Download(Tensor from, absl::Span<float> to) {
  CCOE_CHECK(to.size() == Elements(from));
  if (!to.empty()) std::memcpy(to.data(), from.data, to.size() * sizeof(float));
}

void CpuDevice::GatherRows(Tensor from, absl::Span<const int> rows, Tensor to) {
  CCOE_CHECK(static_cast<size_t>(to.rows) == rows.size() && to.cols == from.cols);
  for (int i = 0; i < to.rows; ++i) {
    const int row = rows[static_cast<size_t>(i)];
    CCOE_CHECK(row >= 0 && row < from.rows);
    std::memcpy(Row(to, i), Row(from, row), static_cast<size_t>(to.cols) * sizeof(float));
  }
}

void CpuDevice::Embed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) {
  const auto& packed = static_cast<const PackedMatrix&>(table);
  CCOE_CHECK(static_cast<size_t>(out.rows) == ids.size() && out.cols == packed.cols());
  for (const int32_t id : ids) CCOE_CHECK(id >= 0 && id < packed.rows());
  For(out.rows, Elements(out),
      [&](int i, int) { packed.ReadRow(ids[static_cast<size_t>(i)], Row(out, i)); });
}

void CpuDevice::For(int count, size_t work, absl::FunctionRef<void(int, int)> body) {
  if (work >= kParallelElements) return pool_.ParallelFor(count, body);
  for (int i = 0; i < count; ++i) body(i, 0);
}

void CpuDevice::PrepareRows(int rows, int cols, MatmulInput* input,
                            absl::FunctionRef<void(int, float*)> fill) {
  auto& to = static_cast<CpuMatmulInput&>(*input);
  CCOE_CHECK(to.Fits(rows, cols));
  to.SetShape(rows, cols);
  const size_t elements = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  For(rows, elements, [&](int r, int) {
    float* row = to.row(r);
    fill(r, row);
    std::fill(row + cols, row + to.stride(), 0.0f);
    if (arithmetic_ == Arithmetic::kI8B32) {
      kernels_.quantize(row, to.blocks(), r % kTileRows, to.tile(r / kTileRows));
    }
  });
}

void CpuDevice::Prepare(Tensor x, MatmulInput* input) {
  PrepareRows(x.rows, x.cols, input, [&](int r, float* to) {
    std::memcpy(to, Row(x, r), static_cast<size_t>(x.cols) * sizeof(float));
  });
}

void CpuDevice::PrepareRmsNorm(Tensor x, const float* weight, float epsilon, MatmulInput* input) {
  PrepareRows(x.rows, x.cols, input,
              [&](int r, float* to) { kernels_.rms_norm(Row(x, r), weight, epsilon, x.cols, to); });
}

void CpuDevice::PrepareSwiGlu(Tensor gate, Tensor up, MatmulInput* input) {
  CCOE_CHECK(gate.rows == up.rows && gate.cols == up.cols);
  PrepareRows(gate.rows, gate.cols, input,
              [&](int r, float* to) { kernels_.swiglu(Row(gate, r), Row(up, r), gate.cols, to); });
}

void CpuDevice::HeadRmsNorm(Tensor x, int head_dim, const float* weight, float epsilon) {
  CCOE_CHECK(head_dim > 0 && x.cols % head_dim == 0);
  For(x.rows, Elements(x), [&](int r, int) {
    float* row = Row(x, r);
    for (int at = 0; at < x.cols; at += head_dim) {
      kernels_.rms_norm(row + at, weight, epsilon, head_dim, row + at);
    }
  });
}

void CpuDevice::Rope(Tensor x, int head_dim, const RopeTable& table, absl::Span<const KvRow> rows) {
  const auto& rotations = static_cast<const CpuRopeTable&>(table);
  CCOE_CHECK(static_cast<size_t>(x.rows) == rows.size() && x.cols % head_dim == 0 &&
             head_dim == 2 * rotations.half());
  for (const KvRow& row : rows) {
    CCOE_CHECK(row.position >= 0 && row.position < rotations.positions());
  }
  For(x.rows, Elements(x), [&](int r, int) {
    const int position = rows[static_cast<size_t>(r)].position;
    float* row = Row(x, r);
    for (int at = 0; at < x.cols; at += head_dim) {
      kernels_.rope(row + at, head_dim, rotations.cos(position), rotations.sin(position));
    }
  });
}

}  // namespace ccoe::compute::cpu
