#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "common/compute/cpu/thread_pool.h"
#include "common/compute/device.h"

// The kernels of SmolLM2-135M's shapes, at one row (memory speed) and at many (arithmetic). Run
// with
// --benchmark_min_time=1; the plain read gives the memory speed of the same run.
namespace ccoe::compute {
namespace {

using base::DType;

constexpr int kHidden = 576;
constexpr int kIntermediate = 1536;
constexpr int kKv = 192;
constexpr int kVocabulary = 49152;
constexpr int kLayers = 30;

int Threads() { return cpu::AvailableCores(); }

std::unique_ptr<Device> MakeDevice(CpuKernels kernels = CpuKernels::kAuto) {
  CpuOptions options;
  options.kernels = kernels;
  options.threads = Threads();
  return *NewCpuDevice(options);
}

std::unique_ptr<Matrix> RandomMatrix(Device& device, DType dtype, int rows, int cols) {
  base::TensorView view = {dtype, rows, cols, {}};
  std::vector<std::byte> bytes(static_cast<size_t>(rows) * *view.RowBytes());
  std::mt19937 random(1);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  const auto block = static_cast<size_t>(base::InfoOf(dtype).block_bytes);
  for (size_t at = 0; at < bytes.size(); at += block) {
    bytes[at + 1] &= std::byte{0x2f};  // small scales
    if (dtype == DType::kQ4_1) bytes[at + 3] &= std::byte{0x2f};
  }
  view.data = bytes;
  return *device.Pack(view);
}

// All products of a model's layers, for `rows` tokens.
class Layers {
 public:
  Layers(Device& device, DType dtype, int rows)
      : device_(device),
        rows_(rows),
        x_(*device.Allocate(static_cast<size_t>(rows) * kIntermediate)),
        hidden_(*device.NewMatmulInput(rows, kHidden)),
        wide_(*device.NewMatmulInput(rows, kIntermediate)) {
    for (int i = 0; i < 4; ++i) {
      y_.push_back(*device.Allocate(static_cast<size_t>(rows) * kIntermediate));
    }
    const std::pair<int, int> shapes[] = {{kHidden, kHidden},       {kKv, kHidden},
                                          {kKv, kHidden},           {kHidden, kHidden},
                                          {kIntermediate, kHidden}, {kIntermediate, kHidden},
                                          {kHidden, kIntermediate}};
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const auto& [out, in] : shapes) {
        weights_.push_back(RandomMatrix(device, dtype, out, in));
        bytes_ += weights_.back()->bytes();
        products_ += static_cast<int64_t>(out) * in * rows;
      }
    }
    std::vector<float> x(static_cast<size_t>(rows) * kIntermediate);
    std::mt19937 random(2);
    for (float& v : x) v = static_cast<float>(random() % 2000) / 1000.0f - 1;
    device.Upload(x, x_->AsTensor(rows, kIntermediate));
  }

  void Run() {
    device_.Prepare(x_->AsTensor(rows_, kHidden), hidden_.get());
    device_.Prepare(x_->AsTensor(rows_, kIntermediate), wide_.get());
    for (size_t l = 0; l < weights_.size(); l += 7) {
      const MatmulTarget qkv[] = {Target(l, 0, kHidden), Target(l + 1, 1, kKv),
                                  Target(l + 2, 2, kKv)};
      const MatmulTarget o[] = {Target(l + 3, 3, kHidden)};
      const MatmulTarget gate_up[] = {Target(l + 4, 0, kIntermediate),
                                      Target(l + 5, 1, kIntermediate)};
      const MatmulTarget down[] = {Target(l + 6, 2, kHidden)};
      device_.Matmul(*hidden_, qkv);
      device_.Matmul(*hidden_, o);
      device_.Matmul(*hidden_, gate_up);
      device_.Matmul(*wide_, down);
    }
  }

  size_t bytes() const { return bytes_; }
  int64_t products() const { return products_; }

 private:
  MatmulTarget Target(size_t weight, size_t y, int cols) {
    return {weights_[weight].get(), y_[y]->AsTensor(rows_, cols), nullptr, Store::kSet};
  }

  Device& device_;
  const int rows_;
  std::unique_ptr<Buffer> x_;
  std::unique_ptr<MatmulInput> hidden_;
  std::unique_ptr<MatmulInput> wide_;
  std::vector<std::unique_ptr<Buffer>> y_;
  std::vector<std::unique_ptr<Matrix>> weights_;
  size_t bytes_ = 0;
  int64_t products_ = 0;
};

void BM_PlainRead(benchmark::State& state) {
  constexpr size_t kBytes = 64 << 20;
  constexpr int kPieces = 64;
  std::vector<uint64_t> data(kBytes / 8, 1);
  std::vector<uint64_t> sums(kPieces * 8);
  cpu::ThreadPool pool(Threads(), std::chrono::microseconds(50));
  for (auto _ : state) {
    pool.ParallelFor(kPieces, [&](int i, int) {
      const size_t n = data.size() / kPieces;
      const uint64_t* at = &data[static_cast<size_t>(i) * n];
      uint64_t s[8] = {};
      for (size_t j = 0; j < n; j += 8) {
        for (size_t k = 0; k < 8; ++k) s[k] ^= at[j + k];
      }
      sums[static_cast<size_t>(i) * 8] = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
    });
    benchmark::DoNotOptimize(sums.data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(kBytes));
}
BENCHMARK(BM_PlainRead)->UseRealTime();

void RunLayers(benchmark::State& state, DType dtype, CpuKernels kernels) {
  auto device = MakeDevice(kernels);
  const int rows = static_cast<int>(state.range(0));
  Layers layers(*device, dtype, rows);
  layers.Run();
  for (auto _ : state) layers.Run();
  const auto runs = static_cast<double>(state.iterations());
  state.SetLabel(device->Describe());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(layers.bytes()));
  state.counters["tokens/s"] = benchmark::Counter(runs * rows, benchmark::Counter::kIsRate);
  state.counters["GMAC/s"] = benchmark::Counter(
      runs * static_cast<double>(layers.products()) * 1e-9, benchmark::Counter::kIsRate);
}

void BM_LayersQ41(benchmark::State& state) { RunLayers(state, DType::kQ4_1, CpuKernels::kAuto); }
BENCHMARK(BM_LayersQ41)->Arg(1)->Arg(2)->Arg(4)->Arg(8)->Arg(16)->Arg(64)->Arg(256)->UseRealTime();
void BM_LayersQ41Avx2(benchmark::State& state) {
  RunLayers(state, DType::kQ4_1, CpuKernels::kAvx2);
}
BENCHMARK(BM_LayersQ41Avx2)->Arg(1)->Arg(16)->Arg(256)->UseRealTime();
void BM_LayersQ80(benchmark::State& state) { RunLayers(state, DType::kQ8_0, CpuKernels::kAuto); }
BENCHMARK(BM_LayersQ80)->Arg(1)->Arg(16)->Arg(256)->UseRealTime();
void BM_LayersF16(benchmark::State& state) { RunLayers(state, DType::kF16, CpuKernels::kAuto); }
BENCHMARK(BM_LayersF16)->Arg(1)->Arg(64)->UseRealTime();

void BM_HeadQ80(benchmark::State& state) {
  auto device = MakeDevice();
  const int rows = static_cast<int>(state.range(0));
  auto head = RandomMatrix(*device, DType::kQ8_0, kVocabulary, kHidden);
  auto x = *device->Allocate(static_cast<size_t>(rows) * kHidden);
  auto y = *device->Allocate(static_cast<size_t>(rows) * kVocabulary);
  auto input = *device->NewMatmulInput(rows, kHidden);
  device->Prepare(x->AsTensor(rows, kHidden), input.get());
  const MatmulTarget target[] = {{head.get(), y->AsTensor(rows, kVocabulary), nullptr, {}}};
  for (auto _ : state) device->Matmul(*input, target);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(head->bytes()));
}
BENCHMARK(BM_HeadQ80)->Arg(1)->Arg(16)->UseRealTime();

// The last `rows` tokens of a session of `tokens`, all layers; or, when rows are sessions, one
// token each of so many sessions.
void BM_Attention(benchmark::State& state) {
  auto device = MakeDevice();
  const int rows = static_cast<int>(state.range(0));
  const int tokens = static_cast<int>(state.range(1));
  const bool sessions = state.range(2) != 0;
  const int pages = (tokens + kKvPageTokens - 1) / kKvPageTokens;
  auto kv = *device->NewKvPages({3, 64}, pages * (sessions ? rows : 1));
  std::vector<std::vector<int32_t>> tables(static_cast<size_t>(sessions ? rows : 1));
  int next = 0;
  for (auto& table : tables) {
    for (int p = 0; p < pages; ++p) table.push_back(next++);
  }
  std::vector<KvRow> places;
  for (int r = 0; r < rows; ++r) {
    places.push_back(sessions ? KvRow{tokens - 1, tables[static_cast<size_t>(r)].data()}
                              : KvRow{tokens - rows + r, tables[0].data()});
  }
  auto q = *device->Allocate(static_cast<size_t>(rows) * kHidden);
  auto out = *device->Allocate(static_cast<size_t>(rows) * kHidden);
  for (auto _ : state) {
    for (int layer = 0; layer < kLayers; ++layer) {
      device->Attention(q->AsTensor(rows, kHidden), places, *kv, out->AsTensor(rows, kHidden));
    }
  }
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(state.iterations() * rows),
                                                  benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Attention)
    ->Args({1, 256, 0})
    ->Args({1, 2048, 0})
    ->Args({256, 256, 0})
    ->Args({16, 256, 1})
    ->UseRealTime();

void BM_PrepareSwiGlu(benchmark::State& state) {
  auto device = MakeDevice();
  const int rows = static_cast<int>(state.range(0));
  auto gate = *device->Allocate(static_cast<size_t>(rows) * kIntermediate);
  auto up = *device->Allocate(static_cast<size_t>(rows) * kIntermediate);
  std::vector<float> values(static_cast<size_t>(rows) * kIntermediate, 0.5f);
  device->Upload(values, gate->AsTensor(rows, kIntermediate));
  device->Upload(values, up->AsTensor(rows, kIntermediate));
  auto input = *device->NewMatmulInput(rows, kIntermediate);
  for (auto _ : state) {
    device->PrepareSwiGlu(gate->AsTensor(rows, kIntermediate), up->AsTensor(rows, kIntermediate),
                          input.get());
  }
  state.SetItemsProcessed(state.iterations() * rows * kIntermediate);
}
BENCHMARK(BM_PrepareSwiGlu)->Arg(1)->Arg(256)->UseRealTime();

void BM_Pack(benchmark::State& state) {
  auto device = MakeDevice();
  const base::TensorView shape = {DType::kQ8_0, kVocabulary, kHidden, {}};
  std::vector<std::byte> bytes(kVocabulary * *shape.RowBytes());
  base::TensorView view = shape;
  view.data = bytes;
  for (auto _ : state) benchmark::DoNotOptimize(device->Pack(view));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(BM_Pack)->UseRealTime();

}  // namespace
}  // namespace ccoe::compute

BENCHMARK_MAIN();
