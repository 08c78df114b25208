#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/compute/compute_test_util.h"

namespace ccoe::compute {
namespace {

using base::DType;

constexpr int kRows[] = {1, 2, 3, 7, 8, 16, 33};
constexpr int kInputs = 512;
constexpr int kOutputs[] = {40, 16, 71};

struct Product {
  int outputs;
  TestTensor weight;
  std::vector<float> bias;
};

std::vector<Product> MakeProducts(DType dtype) {
  std::vector<Product> products;
  for (const int outputs : kOutputs) {
    const auto seed = static_cast<uint32_t>(outputs);
    products.push_back({outputs, RandomTensor(dtype, outputs, kInputs, seed),
                        RandomFloats(static_cast<size_t>(outputs), seed + 1)});
  }
  return products;
}

// Runs all products over the same input; the second adds to what is there, the third has a bias.
std::vector<std::vector<float>> RunProducts(Device& device, const std::vector<Product>& products,
                                            const std::vector<float>& x, int rows) {
  auto x_buffer = ToDevice(device, x);
  auto input = *device.NewMatmulInput(rows, kInputs);
  device.Prepare(x_buffer->AsTensor(rows, kInputs), input.get());
  std::vector<std::unique_ptr<Matrix>> matrices;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<std::unique_ptr<Buffer>> biases;
  std::vector<MatmulTarget> targets;
  for (size_t i = 0; i < products.size(); ++i) {
    const Product& p = products[i];
    matrices.push_back(*device.Pack(p.weight.view));
    buffers.push_back(ToDevice(
        device, RandomFloats(static_cast<size_t>(rows) * static_cast<size_t>(p.outputs), 5)));
    biases.push_back(ToDevice(device, p.bias));
    targets.push_back({matrices[i].get(), buffers[i]->AsTensor(rows, p.outputs),
                       i == 2 ? biases[i]->data() : nullptr, i == 1 ? Store::kAdd : Store::kSet});
  }
  device.Matmul(*input, targets);
  std::vector<std::vector<float>> results;
  for (const MatmulTarget& target : targets) results.push_back(FromDevice(device, target.y));
  return results;
}

class MatmulTest : public ::testing::TestWithParam<std::tuple<CpuKernels, Arithmetic, DType>> {};

// The oracle computes every row alone, on one thread.
TEST_P(MatmulTest, GivesTheOraclesBitsAtEveryBatchSizeAndThreadCount) {
  const auto [kernels, arithmetic, dtype] = GetParam();
  const auto products = MakeProducts(dtype);
  auto oracle = MakeDevice(CpuKernels::kScalar, arithmetic, 1);
  const auto all = RandomActivations(33 * kInputs, 3);
  std::vector<std::vector<float>> expected(products.size());
  for (int row = 0; row < 33; ++row) {
    const std::vector<float> x(all.begin() + row * kInputs, all.begin() + (row + 1) * kInputs);
    const auto results = RunProducts(*oracle, products, x, 1);
    for (size_t i = 0; i < products.size(); ++i) {
      expected[i].insert(expected[i].end(), results[i].begin(), results[i].end());
    }
  }
  for (const int threads : {1, 2, 3}) {
    auto device = MakeDevice(kernels, arithmetic, threads);
    for (const int rows : kRows) {
      SCOPED_TRACE(testing::Message() << threads << " threads, " << rows << " rows");
      const std::vector<float> x(all.begin(), all.begin() + rows * kInputs);
      const auto results = RunProducts(*device, products, x, rows);
      for (size_t i = 0; i < products.size(); ++i) {
        if (i == 1) continue;  // adds to different values per batch; its own test below
        const std::vector<float> want(expected[i].begin(),
                                      expected[i].begin() + rows * products[i].outputs);
        EXPECT_TRUE(SameBits(results[i], want));
      }
    }
  }
}

TEST_P(MatmulTest, AddsToWhatIsThere) {
  const auto [kernels, arithmetic, dtype] = GetParam();
  const auto products = MakeProducts(dtype);
  const auto x = RandomActivations(7 * kInputs, 4);
  auto oracle = MakeDevice(CpuKernels::kScalar, arithmetic, 1);
  auto device = MakeDevice(kernels, arithmetic, 2);
  EXPECT_TRUE(
      SameBits(RunProducts(*device, products, x, 7)[1], RunProducts(*oracle, products, x, 7)[1]));
}

// Against double precision, relative to the sum of the magnitudes: float32 rounding (2e-6), and
// under i8b32 half a step of 1/127 of each block's largest activation (5e-3).
TEST_P(MatmulTest, IsCloseToDoublePrecision) {
  const auto [kernels, arithmetic, dtype] = GetParam();
  const auto products = MakeProducts(dtype);
  constexpr int kBatch = 8;
  const auto x = RandomFloats(kBatch * kInputs, 6);
  auto device = MakeDevice(kernels, arithmetic, 1);
  const auto results = RunProducts(*device, products, x, kBatch);
  const bool rounded = arithmetic == Arithmetic::kI8B32 && base::InfoOf(dtype).block_elements > 1;
  const double tolerance = rounded ? 5e-3 : 2e-6;
  const Product& p = products[0];
  for (int r = 0; r < kBatch; ++r) {
    for (int o = 0; o < p.outputs; ++o) {
      double sum = 0;
      double magnitude = 0;
      for (int i = 0; i < kInputs; ++i) {
        const double term =
            static_cast<double>(p.weight.values[static_cast<size_t>(o * kInputs + i)]) *
            static_cast<double>(x[static_cast<size_t>(r * kInputs + i)]);
        sum += term;
        magnitude += std::fabs(term);
      }
      EXPECT_NEAR(results[0][static_cast<size_t>(r * p.outputs + o)], sum, tolerance * magnitude);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTest,
                         ::testing::Combine(::testing::ValuesIn(SupportedCpuKernels()),
                                            ::testing::Values(Arithmetic::kExact,
                                                              Arithmetic::kI8B32),
                                            ::testing::ValuesIn(kAllTypes)),
                         [](const auto& info) {
                           return KernelsName(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) == Arithmetic::kExact ? "_exact_"
                                                                                 : "_i8b32_") +
                                  TypeName(std::get<2>(info.param));
                         });

}  // namespace
}  // namespace ccoe::compute
