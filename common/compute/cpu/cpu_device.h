#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "common/compute/cpu/aligned_memory.h"
#include "common/compute/cpu/kernels.h"
#include "common/compute/cpu/kv_pages.h"
#include "common/compute/cpu/matmul_input.h"
#include "common/compute/cpu/thread_pool.h"
#include "common/compute/cpu/weight_arena.h"
#include "common/compute/device.h"

namespace ccoe::compute::cpu {

// The device of every kernel set: packing, shapes, threads and the order of work are here, the
// inner loops in the set's table.
class CpuDevice final : public Device {
 public:
  CpuDevice(Arithmetic arithmetic, const KernelTable& kernels, int threads,
            std::chrono::microseconds spin)
      : arithmetic_(arithmetic), kernels_(kernels), pool_(threads, spin), scratch_(threads) {}

  Arithmetic arithmetic() const override { return arithmetic_; }
  std::string Describe() const override;

  absl::StatusOr<std::unique_ptr<Matrix>> Pack(const base::TensorView& weight) override;
  absl::StatusOr<std::unique_ptr<Matrix>> PackAs(const base::TensorView& weight,
                                                 base::DType format) override;
  absl::StatusOr<std::unique_ptr<Matrix>> PackFloat(const base::TensorView& weight) override;
  absl::StatusOr<std::unique_ptr<Buffer>> PackVector(const base::TensorView& vector) override;

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t floats) override;
  absl::StatusOr<std::unique_ptr<MatmulInput>> NewMatmulInput(int max_rows, int max_cols) override;
  absl::StatusOr<std::unique_ptr<RopeTable>> NewRopeTable(
      absl::Span<const float> inverse_frequencies, int positions) override;
  absl::StatusOr<std::unique_ptr<KvPages>> NewKvPages(const KvShape& shape,
                                                      int page_count) override;

  void Upload(absl::Span<const float> from, Tensor to) override;
  void Download(Tensor from, absl::Span<float> to) override;
  void GatherRows(Tensor from, absl::Span<const int> rows, Tensor to) override;
  void Embed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) override;

  void Prepare(Tensor x, MatmulInput* input) override;
  void PrepareRmsNorm(Tensor x, const float* weight, float epsilon, MatmulInput* input) override;
  void PrepareSwiGlu(Tensor gate, Tensor up, MatmulInput* input) override;

  void Matmul(const MatmulInput& x, absl::Span<const MatmulTarget> targets) override;
  void Lora(const MatmulInput& x, absl::Span<const LoraSegment> segments) override;

  void HeadRmsNorm(Tensor x, int head_dim, const float* weight, float epsilon) override;
  void Rope(Tensor x, int head_dim, const RopeTable& table, absl::Span<const KvRow> rows) override;
  void WriteKv(Tensor k, Tensor v, absl::Span<const KvRow> rows, KvPages* pages) override;
  void Attention(Tensor q, absl::Span<const KvRow> rows, const KvPages& pages, Tensor out) override;

 private:
  // Queries of neighbouring rows of one session and one key-value head, which one call computes.
  struct AttentionItem {
    int row = 0;          // first row of the session's run
    int first_query = 0;  // within the run: row by row, the heads of the group in turn
    int query_count = 0;
    int kv_head = 0;
  };

  // Runs body(index, worker) over [0, count): in parallel when `work`, in elements, is worth it.
  void For(int count, size_t work, absl::FunctionRef<void(int, int)> body);
  // Makes `input` of rows that `fill(row, to)` writes.
  void PrepareRows(int rows, int cols, MatmulInput* input,
                   absl::FunctionRef<void(int, float*)> fill);
  MatmulTask NewTask(const CpuMatmulInput& x, const Matrix& weight) const;
  // Runs products that do not depend on one another, as one loop over pieces of all of them.
  void RunProducts(const std::vector<MatmulTask>& tasks);
  void SplitProduct(const MatmulTask& task, int all_panels);
  void PlanAttention(absl::Span<const KvRow> rows, int heads, int kv_heads);
  void AttendItem(const AttentionItem& item, Tensor q, absl::Span<const KvRow> rows,
                  const CpuKvPages& pages, Tensor out, AlignedMemory& scratch);

  const Arithmetic arithmetic_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  WeightArena arena_;

  // Kept between calls for their memory.
  std::vector<MatmulTask> tasks_;
  std::vector<MatmulTask> pieces_;
  std::vector<AttentionItem> attention_items_;
  std::vector<AlignedMemory> scratch_;  // per worker
  AlignedMemory lora_;
};

}  // namespace ccoe::compute::cpu
