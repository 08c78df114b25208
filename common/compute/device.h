#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/tensor_view.h"

namespace ccoe::compute {

// Named arithmetics: two engines whose names are equal produce the same bits, whatever their
// kernels, threads and batch sizes. docs/arithmetic.md defines both to the last operation.
enum class Arithmetic {
  kExact,  // "exact": float32 weights and activations
  kI8B32,  // "i8b32.v2": int8 activations with a scale per 32 values, twice where outliers are;
           // weights as their file has them
};

std::string_view ArithmeticName(Arithmetic arithmetic);
// INVALID_ARGUMENT names the known ones.
absl::StatusOr<Arithmetic> ParseArithmetic(std::string_view name);

// Float32 activations [rows, cols] in a device's memory, row after row. A handle: owns nothing. On
// a device other than the CPU `data` must not be dereferenced by the host.
struct Tensor {
  float* data = nullptr;
  int rows = 0;
  int cols = 0;

  Tensor Rows(int begin, int count) const {
    return {data + static_cast<size_t>(begin) * cols, count, cols};
  }
};

// Memory of a device, freed with its owner.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual float* data() = 0;
  virtual size_t bytes() const = 0;
  Tensor AsTensor(int rows, int cols) { return {data(), rows, cols}; }
};

// A weight matrix [rows = outputs, cols = inputs] in the layout a device's kernels read. Immutable.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int rows() const = 0;
  virtual int cols() const = 0;
  virtual size_t bytes() const = 0;
};

// Rows of activations in the form that matrix products read: the float32 rows and, under i8b32,
// their quantised blocks. Made by one of the Prepare operations, then read by any number of
// products.
class MatmulInput {
 public:
  virtual ~MatmulInput() = default;
  virtual int rows() const = 0;
  virtual int cols() const = 0;
};

enum class Store { kSet, kAdd };

// One product over a prepared input x: y = x W^T + bias, or y += x W^T + bias.
struct MatmulTarget {
  const Matrix* weight = nullptr;
  Tensor y;                     // [rows of x, rows of weight]
  const float* bias = nullptr;  // [rows of weight], device memory; may be null
  Store store = Store::kSet;
};

// y[row_begin, row_begin + row_count) += scale * ((x A^T) B^T), for the same rows of the input x.
struct LoraSegment {
  int row_begin = 0;
  int row_count = 0;
  const Matrix* a = nullptr;  // [rank, inputs]
  const Matrix* b = nullptr;  // [outputs, rank]
  float scale = 1;
  Tensor y;  // all rows of x, [rows of x, outputs]
};

// cos and sin of position * frequency for every position of the context.
class RopeTable {
 public:
  virtual ~RopeTable() = default;
};

struct KvShape {
  int kv_heads = 0;
  int head_dim = 0;
};

// Tokens of one KV page. Attention reduces over blocks of this many tokens, aligned to absolute
// position.
inline constexpr int kKvPageTokens = 32;

// Pages of keys and values; a page holds kKvPageTokens tokens of one layer of one session.
class KvPages {
 public:
  virtual ~KvPages() = default;
  virtual int page_count() const = 0;
  virtual size_t page_bytes() const = 0;
};

// Where a row stands in its session, for one layer: page `pages[position / kKvPageTokens]` holds
// its keys and values, and the rows before it are in the pages before.
struct KvRow {
  int position = 0;
  const int32_t* pages = nullptr;
};

// Weights, KV cache and activations live on a device; whoever computes holds handles and shapes.
// One thread at a time may call a device; operations run in the order of the calls. The host may
// read a result after Download. Pack, PackAs, PackFloat, PackVector, Allocate and the New functions
// may be called by any thread at any time.
//
// Shapes and handles are the caller's responsibility (a wrong one is a bug and dies in a check);
// only allocation and packing can fail: RESOURCE_EXHAUSTED without memory, INVALID_ARGUMENT for a
// tensor that the device cannot take.
class Device {
 public:
  virtual ~Device() = default;

  virtual Arithmetic arithmetic() const = 0;
  // For people: "cpu avx512-vnni, 2 threads".
  virtual std::string Describe() const = 0;

  // Copies `weight` into the device's layout; the view may go away afterwards.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> Pack(const base::TensorView& weight) = 0;
  // As Pack, of a weight in a float format that is quantised to `format` first; an arithmetic that
  // keeps its weights as float32 does not.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> PackAs(const base::TensorView& weight,
                                                         base::DType format) = 0;
  // As Pack, for the two factors of a LoRA adapter, which are computed in float32 in any
  // arithmetic.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> PackFloat(const base::TensorView& weight) = 0;
  // Copies a vector (one row, a float dtype), as float32.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> PackVector(const base::TensorView& vector) = 0;

  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t floats) = 0;
  virtual absl::StatusOr<std::unique_ptr<MatmulInput>> NewMatmulInput(int max_rows,
                                                                      int max_cols) = 0;
  // `inverse_frequencies` has head_dim / 2 values; the table covers positions [0, positions).
  virtual absl::StatusOr<std::unique_ptr<RopeTable>> NewRopeTable(
      absl::Span<const float> inverse_frequencies, int positions) = 0;
  virtual absl::StatusOr<std::unique_ptr<KvPages>> NewKvPages(const KvShape& shape,
                                                              int page_count) = 0;

  virtual void Upload(absl::Span<const float> from, Tensor to) = 0;
  virtual void Download(Tensor from, absl::Span<float> to) = 0;
  // to[i] = from[rows[i]]; the two do not overlap.
  virtual void GatherRows(Tensor from, absl::Span<const int> rows, Tensor to) = 0;

  // out[i] = row ids[i] of `table`. Ids are in [0, table.rows()).
  virtual void Embed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) = 0;

  virtual void Prepare(Tensor x, MatmulInput* input) = 0;
  // input = x / sqrt(mean(x^2) + epsilon) * weight, per row.
  virtual void PrepareRmsNorm(Tensor x, const float* weight, float epsilon, MatmulInput* input) = 0;
  // input = silu(gate) * up.
  virtual void PrepareSwiGlu(Tensor gate, Tensor up, MatmulInput* input) = 0;

  virtual void Matmul(const MatmulInput& x, absl::Span<const MatmulTarget> targets) = 0;
  virtual void Lora(const MatmulInput& x, absl::Span<const LoraSegment> segments) = 0;

  // RMS norm of each head of x [rows, heads * head_dim] by `weight` [head_dim] (Qwen3).
  virtual void HeadRmsNorm(Tensor x, int head_dim, const float* weight, float epsilon) = 0;
  // Rotates halves of each head (Hugging Face's order): x [rows, heads * head_dim].
  virtual void Rope(Tensor x, int head_dim, const RopeTable& table,
                    absl::Span<const KvRow> rows) = 0;
  // Stores k and v [rows, kv_heads * head_dim] at their rows' positions.
  virtual void WriteKv(Tensor k, Tensor v, absl::Span<const KvRow> rows, KvPages* pages) = 0;
  // Causal attention of each row over positions [0, its position] of its session; q and out
  // [rows, heads * head_dim]; heads is a multiple of kv_heads; scores are scaled by
  // 1 / sqrt(head_dim).
  virtual void Attention(Tensor q, absl::Span<const KvRow> rows, const KvPages& pages,
                         Tensor out) = 0;
};

// Kernel sets of the CPU, each faster than the one before; all give the same bits.
enum class CpuKernels { kAuto, kScalar, kAvx2, kAvx512Vnni, kAmx };

struct CpuOptions {
  Arithmetic arithmetic = Arithmetic::kI8B32;
  CpuKernels kernels = CpuKernels::kAuto;  // kAuto: the best set that this CPU runs
  int threads = 0;                         // 0: one per core this process may use
  // How long an idle thread spins before it sleeps. -1: a little while when there are cores for all
  // threads. While more threads of the machine want to run than it has cores, none spins.
  int spin_us = -1;
};

// FAILED_PRECONDITION when the CPU lacks the chosen kernel set.
absl::StatusOr<std::unique_ptr<Device>> NewCpuDevice(const CpuOptions& options);

std::string_view CpuKernelsName(CpuKernels kernels);
// The sets that this CPU runs, kScalar first.
std::vector<CpuKernels> SupportedCpuKernels();

}  // namespace ccoe::compute
