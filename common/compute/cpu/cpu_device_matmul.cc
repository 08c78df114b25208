#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "common/compute/cpu/cpu_device.h"
#include "common/compute/cpu/packed_matrix.h"

// Matrix products of CpuDevice: threads split outputs, never a sum.
namespace ccoe::compute::cpu {
namespace {

// Products of fewer multiplications than this run on the caller's thread.
constexpr size_t kParallelProducts = 64 * 1024;
// Pieces per thread: enough to even out threads that the system holds up.
constexpr int kPiecesPerThread = 16;

size_t ProductsOf(const MatmulTask& task) {
  return static_cast<size_t>(task.row_end) * static_cast<size_t>(task.outputs) *
         static_cast<size_t>(task.blocks) * kBlock;
}

}  // namespace

MatmulTask CpuDevice::NewTask(const CpuMatmulInput& x, const Matrix& weight) const {
  const auto& packed = static_cast<const PackedMatrix&>(weight);
  CCOE_CHECK(x.cols() == packed.cols());
  MatmulTask task;
  task.format = packed.format();
  task.panels = packed.data();
  task.panel_bytes = packed.panel_bytes();
  task.outputs = packed.rows();
  task.inputs = packed.cols();
  task.blocks = packed.blocks();
  task.xq = x.tile(0);
  task.x = x.row(0);
  task.x_stride = x.stride();
  task.row_end = x.rows();
  task.panel_end = packed.panels();
  return task;
}

void CpuDevice::Matmul(const MatmulInput& x, absl::Span<const MatmulTarget> targets) {
  const auto& input = static_cast<const CpuMatmulInput&>(x);
  if (input.rows() == 0) return;
  tasks_.clear();
  for (const MatmulTarget& target : targets) {
    MatmulTask task = NewTask(input, *target.weight);
    CCOE_CHECK(target.y.rows == input.rows() && target.y.cols == task.outputs);
    task.y = target.y.data;
    task.y_stride = static_cast<size_t>(target.y.cols);
    task.bias = target.bias;
    task.epilogue = target.store == Store::kAdd ? Epilogue::kAdd : Epilogue::kSet;
    tasks_.push_back(task);
  }
  RunProducts(tasks_);
}

void CpuDevice::Lora(const MatmulInput& x, absl::Span<const LoraSegment> segments) {
  const auto& input = static_cast<const CpuMatmulInput&>(x);
  const auto stride_of = [](const LoraSegment& segment) {
    return static_cast<size_t>(CpuMatmulInput::BlocksOf(segment.a->rows())) * kBlock;
  };
  size_t floats = 0;
  for (const LoraSegment& segment : segments) {
    CCOE_CHECK(segment.row_begin >= 0 && segment.row_count >= 0 &&
               segment.row_begin + segment.row_count <= input.rows());
    CCOE_CHECK(segment.b->cols() == segment.a->rows() && segment.y.cols == segment.b->rows());
    floats += static_cast<size_t>(segment.row_count) * stride_of(segment);
  }
  if (lora_.bytes() < floats * sizeof(float)) {
    lora_ = AlignedMemory(floats * sizeof(float));
    CCOE_CHECK(lora_.data() != nullptr);
  }
  // The padding behind each row of t meets zero weights, but must be finite.
  std::fill_n(lora_.as<float>(), floats, 0.0f);

  tasks_.clear();
  float* t = lora_.as<float>();
  for (const LoraSegment& segment : segments) {
    if (segment.row_count == 0) continue;
    MatmulTask task = NewTask(input, *segment.a);
    task.x = input.row(segment.row_begin);
    task.row_end = segment.row_count;
    task.y = t;
    task.y_stride = stride_of(segment);
    tasks_.push_back(task);
    t += static_cast<size_t>(segment.row_count) * stride_of(segment);
  }
  RunProducts(tasks_);

  tasks_.clear();
  t = lora_.as<float>();
  for (const LoraSegment& segment : segments) {
    if (segment.row_count == 0) continue;
    const auto& b = static_cast<const PackedMatrix&>(*segment.b);
    MatmulTask task;
    task.format = b.format();
    task.panels = b.data();
    task.panel_bytes = b.panel_bytes();
    task.outputs = b.rows();
    task.inputs = b.cols();
    task.blocks = b.blocks();
    task.x = t;
    task.x_stride = stride_of(segment);
    task.row_end = segment.row_count;
    task.panel_end = b.panels();
    task.y = segment.y.Rows(segment.row_begin, segment.row_count).data;
    task.y_stride = static_cast<size_t>(segment.y.cols);
    task.epilogue = Epilogue::kAddScaled;
    task.scale = segment.scale;
    tasks_.push_back(task);
    t += static_cast<size_t>(segment.row_count) * stride_of(segment);
  }
  RunProducts(tasks_);
}

void CpuDevice::RunProducts(const std::vector<MatmulTask>& tasks) {
  size_t products = 0;
  int panels = 0;
  for (const MatmulTask& task : tasks) {
    products += ProductsOf(task);
    panels += task.panel_end;
  }
  if (products < kParallelProducts || pool_.threads() == 1) {
    for (const MatmulTask& task : tasks) kernels_.matmul(task);
    return;
  }
  pieces_.clear();
  for (const MatmulTask& task : tasks) SplitProduct(task, panels);
  pool_.ParallelFor(static_cast<int>(pieces_.size()),
                    [&](int i, int) { kernels_.matmul(pieces_[static_cast<size_t>(i)]); });
}

void CpuDevice::SplitProduct(const MatmulTask& task, int all_panels) {
  const int wanted = pool_.threads() * kPiecesPerThread;
  const int panels = std::max(1, all_panels / wanted);
  // Few panels and many rows: split the rows too.
  int rows = task.row_end;
  if (all_panels < wanted) {
    const int parts = (wanted + all_panels - 1) / all_panels;
    rows = std::max(kTileRows, (rows / parts + kTileRows - 1) / kTileRows * kTileRows);
  }
  for (int panel = 0; panel < task.panel_end; panel += panels) {
    for (int row = 0; row < task.row_end; row += rows) {
      MatmulTask piece = task;
      piece.panel_begin = panel;
      piece.panel_end = std::min(panel + panels, task.panel_end);
      piece.row_begin = row;
      piece.row_end = std::min(row + rows, task.row_end);
      pieces_.push_back(piece);
    }
  }
}

}  // namespace ccoe::compute::cpu
