#include <cmath>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/compute/compute_test_util.h"

namespace ccoe::compute {
namespace {

using base::DType;
using ::testing::HasSubstr;

class DeviceTest : public ::testing::TestWithParam<std::tuple<CpuKernels, Arithmetic>> {
 protected:
  std::unique_ptr<Device> Make(int threads) const {
    return MakeDevice(std::get<0>(GetParam()), std::get<1>(GetParam()), threads);
  }
  std::unique_ptr<Device> Oracle() const {
    return MakeDevice(CpuKernels::kScalar, std::get<1>(GetParam()), 1);
  }
};

TEST_P(DeviceTest, EmbedReadsDequantisedRows) {
  auto device = Make(2);
  const std::vector<int32_t> ids = {0, 36, 17, 17, 5};
  for (const DType dtype : kAllTypes) {
    const TestTensor table = RandomTensor(dtype, 37, 256, 11);
    auto matrix = *device->Pack(table.view);
    auto out = *device->Allocate(5 * 256);
    device->Embed(*matrix, ids, out->AsTensor(5, 256));
    std::vector<float> want;
    for (const int32_t id : ids) {
      want.insert(want.end(), table.values.begin() + id * 256,
                  table.values.begin() + id * 256 + 256);
    }
    EXPECT_TRUE(SameBits(FromDevice(*device, out->AsTensor(5, 256)), want)) << TypeName(dtype);
  }
}

TEST_P(DeviceTest, GatherRows) {
  auto device = Make(1);
  auto from = ToDevice(*device, {0, 1, 10, 11, 20, 21});
  auto to = *device->Allocate(4);
  device->GatherRows(from->AsTensor(3, 2), {2, 0}, to->AsTensor(2, 2));
  EXPECT_THAT(FromDevice(*device, to->AsTensor(2, 2)), ::testing::ElementsAre(20, 21, 0, 1));
}

TEST_P(DeviceTest, PackVectorWidens) {
  auto device = Make(1);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const TestTensor t = RandomTensor(dtype, 1, 50, 12);
    auto buffer = *device->PackVector(t.view);
    EXPECT_TRUE(SameBits(FromDevice(*device, buffer->AsTensor(1, 50)), t.values));
  }
  EXPECT_FALSE(device->PackVector(RandomTensor(DType::kQ8_0, 1, 32, 1).view).ok());
  EXPECT_FALSE(device->PackVector(RandomTensor(DType::kF32, 2, 32, 1).view).ok());
}

// Inputs that are not whole blocks, with norm and gate in front of the product.
TEST_P(DeviceTest, FloatProductsTakeAnyWidth) {
  constexpr int kRows = 9;
  constexpr int kInputs = 50;
  const auto x = RandomFloats(kRows * kInputs, 13);
  const auto up = RandomFloats(kRows * kInputs, 14);
  const auto norm = RandomFloats(kInputs, 15);
  std::vector<std::vector<float>> results;
  for (const bool oracle : {true, false}) {
    auto device = oracle ? Oracle() : Make(3);
    const TestTensor w = RandomTensor(DType::kF16, 19, kInputs, 16);
    auto matrix = *device->Pack(w.view);
    auto dx = ToDevice(*device, x);
    auto du = ToDevice(*device, up);
    auto dn = ToDevice(*device, norm);
    auto input = *device->NewMatmulInput(16, 512);
    auto y = *device->Allocate(kRows * 19);
    const std::vector<MatmulTarget> first = {{matrix.get(), y->AsTensor(kRows, 19), nullptr, {}}};
    const std::vector<MatmulTarget> second = {
        {matrix.get(), y->AsTensor(kRows, 19), nullptr, Store::kAdd}};
    device->PrepareRmsNorm(dx->AsTensor(kRows, kInputs), dn->data(), 1e-5f, input.get());
    device->Matmul(*input, first);
    device->PrepareSwiGlu(dx->AsTensor(kRows, kInputs), du->AsTensor(kRows, kInputs), input.get());
    device->Matmul(*input, second);
    results.push_back(FromDevice(*device, y->AsTensor(kRows, 19)));
  }
  EXPECT_TRUE(SameBits(results[1], results[0]));
}

// Each row of a batch of two adapters equals that row computed alone with its adapter.
TEST_P(DeviceTest, LoraAddsItsSegmentsDelta) {
  constexpr int kRows = 21;
  constexpr int kInputs = 64;
  constexpr int kOutputs = 48;
  const auto x = RandomFloats(kRows * kInputs, 17);
  const auto start = RandomFloats(kRows * kOutputs, 18);
  for (const int rank : {1, 5, 16, 40, 256}) {
    const TestTensor a[] = {RandomTensor(DType::kF32, rank, kInputs, 19),
                            RandomTensor(DType::kBF16, rank, kInputs, 20)};
    const TestTensor b[] = {RandomTensor(DType::kF16, kOutputs, rank, 21),
                            RandomTensor(DType::kF32, kOutputs, rank, 22)};
    const auto run = [&](Device& device, int begin, int count) {
      auto dx = ToDevice(device, x);
      auto dy = ToDevice(device, start);
      auto input = *device.NewMatmulInput(kRows, kInputs);
      device.Prepare(dx->AsTensor(kRows, kInputs), input.get());
      std::vector<std::unique_ptr<Matrix>> matrices;
      for (int i = 0; i < 2; ++i) {
        matrices.push_back(*device.PackFloat(a[i].view));
        matrices.push_back(*device.PackFloat(b[i].view));
      }
      std::vector<LoraSegment> segments;
      for (int i = 0; i < 2; ++i) {
        const int from = std::max(begin, i == 0 ? 0 : 14);
        const int to = std::min(begin + count, i == 0 ? 13 : kRows);  // row 13 has no adapter
        if (from >= to) continue;
        segments.push_back({from, to - from, matrices[static_cast<size_t>(2 * i)].get(),
                            matrices[static_cast<size_t>(2 * i + 1)].get(), 0.5f + i,
                            dy->AsTensor(kRows, kOutputs)});
      }
      device.Lora(*input, segments);
      return FromDevice(device, dy->AsTensor(kRows, kOutputs));
    };
    auto oracle = Oracle();
    auto device = Make(2);
    auto want = start;
    for (int r = 0; r < kRows; ++r) {
      const auto one = run(*oracle, r, 1);
      std::copy_n(one.begin() + r * kOutputs, kOutputs, want.begin() + r * kOutputs);
    }
    const auto got = run(*device, 0, kRows);
    EXPECT_TRUE(SameBits(got, want)) << rank;
    double t0 = 0;  // y[0][0] in double precision
    for (int k = 0; k < rank; ++k) {
      double t = 0;
      for (int i = 0; i < kInputs; ++i) {
        t += static_cast<double>(x[static_cast<size_t>(i)]) *
             static_cast<double>(a[0].values[static_cast<size_t>(k * kInputs + i)]);
      }
      t0 += t * static_cast<double>(b[0].values[static_cast<size_t>(k)]);
    }
    EXPECT_NEAR(got[0], static_cast<double>(start[0]) + 0.5 * t0, 1e-3);
    EXPECT_EQ(got[13 * kOutputs], start[13 * kOutputs]);
  }
}

TEST_P(DeviceTest, RopeAndHeadNormTakeEveryHead) {
  constexpr int kRows = 5;
  constexpr int kHeads = 3;
  constexpr int kDim = 8;
  const auto x = RandomFloats(kRows * kHeads * kDim, 23);
  const auto norm = RandomFloats(kDim, 24);
  const std::vector<float> frequencies = {1, 0.1f, 0.01f, 0.001f};
  std::vector<std::vector<float>> results;
  for (const bool oracle : {true, false}) {
    auto device = oracle ? Oracle() : Make(2);
    auto table = *device->NewRopeTable(frequencies, 100);
    auto dx = ToDevice(*device, x);
    auto dn = ToDevice(*device, norm);
    std::vector<KvRow> rows;
    for (int r = 0; r < kRows; ++r) rows.push_back({r * 20, nullptr});
    device->HeadRmsNorm(dx->AsTensor(kRows, kHeads * kDim), kDim, dn->data(), 1e-6f);
    device->Rope(dx->AsTensor(kRows, kHeads * kDim), kDim, *table, rows);
    results.push_back(FromDevice(*device, dx->AsTensor(kRows, kHeads * kDim)));
  }
  EXPECT_TRUE(SameBits(results[1], results[0]));
  // Row 2, head 1, first pair of halves, in double precision.
  const float* head = &x[(2 * kHeads + 1) * kDim];
  double squares = 0;
  for (int i = 0; i < kDim; ++i)
    squares += static_cast<double>(head[i]) * static_cast<double>(head[i]);
  const double r = 1 / std::sqrt(squares / kDim + 1e-6);
  const double first = static_cast<double>(head[0]) * r * static_cast<double>(norm[0]);
  const double second = static_cast<double>(head[4]) * r * static_cast<double>(norm[4]);
  EXPECT_NEAR(results[1][(2 * kHeads + 1) * kDim], first * std::cos(40.0) - second * std::sin(40.0),
              1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, DeviceTest,
                         ::testing::Combine(::testing::ValuesIn(SupportedCpuKernels()),
                                            ::testing::Values(Arithmetic::kExact,
                                                              Arithmetic::kI8B32)),
                         [](const auto& info) {
                           return KernelsName(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) == Arithmetic::kExact ? "_exact"
                                                                                 : "_i8b32");
                         });

TEST(PackTest, RefusesImpossibleTensors) {
  auto device = MakeDevice(CpuKernels::kScalar, Arithmetic::kI8B32, 1);
  const TestTensor good = RandomTensor(DType::kQ4_1, 4, 64, 1);
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{4, 63},
                                   {5, 64},
                                   {3, 64},
                                   {0, 64},
                                   {4, 0},
                                   {-4, 64},
                                   {int64_t{1} << 40, 64}}) {
    base::TensorView view = good.view;
    view.rows = rows;
    view.cols = cols;
    const auto packed = device->Pack(view);
    EXPECT_EQ(packed.status().code(), absl::StatusCode::kInvalidArgument) << rows << "x" << cols;
  }
  EXPECT_TRUE(device->Pack(good.view).ok());
}

TEST(ArithmeticTest, NamesAreStable) {
  EXPECT_EQ(ArithmeticName(Arithmetic::kExact), "exact");
  EXPECT_EQ(ArithmeticName(Arithmetic::kI8B32), "i8b32.v2");
  EXPECT_EQ(*ParseArithmetic("exact"), Arithmetic::kExact);
  EXPECT_EQ(*ParseArithmetic("i8b32.v2"), Arithmetic::kI8B32);
  EXPECT_THAT(std::string(ParseArithmetic("int8").status().message()), HasSubstr("i8b32.v2"));
}

TEST(CpuDeviceTest, SaysWhatItRuns) {
  EXPECT_EQ(SupportedCpuKernels().front(), CpuKernels::kScalar);
  EXPECT_EQ(MakeDevice(CpuKernels::kScalar, Arithmetic::kExact, 3)->Describe(),
            "cpu scalar, 3 threads");
  CpuOptions options;
  options.threads = -1;
  EXPECT_EQ(NewCpuDevice(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ccoe::compute
