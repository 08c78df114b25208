#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/compute/compute_test_util.h"

namespace ccoe::compute {
namespace {

struct Shape {
  int heads;
  int kv_heads;
  int head_dim;
};

// A session of `tokens` tokens with its own page table into a pool that begins as garbage.
struct Session {
  std::vector<int32_t> pages;
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
  int tokens = 0;
};

constexpr int kPoolPages = 16;

std::vector<Session> MakeSessions(const Shape& shape) {
  std::vector<Session> sessions(3);
  const int tokens[] = {1, 75, 130};
  int32_t next = kPoolPages - 1;
  for (size_t s = 0; s < sessions.size(); ++s) {
    sessions[s].tokens = tokens[s];
    const auto n = static_cast<size_t>(tokens[s] * shape.head_dim);
    const auto seed = static_cast<uint32_t>(s * 10);
    sessions[s].q = RandomFloats(n * static_cast<size_t>(shape.heads), seed + 1, 2);
    sessions[s].k = RandomFloats(n * static_cast<size_t>(shape.kv_heads), seed + 2);
    sessions[s].v = RandomFloats(n * static_cast<size_t>(shape.kv_heads), seed + 3);
    for (int t = 0; t < tokens[s]; t += kKvPageTokens) sessions[s].pages.push_back(next--);
  }
  return sessions;
}

// Tokens [begin, end) of one session, as rows of a batch.
struct Piece {
  size_t session;
  int begin;
  int end;
};

class Cache {
 public:
  Cache(Device& device, const Shape& shape)
      : device_(device),
        shape_(shape),
        pages_(*device.NewKvPages({shape.kv_heads, shape.head_dim}, kPoolPages)) {
    FillWithGarbage();
  }

  // Writes the rows' keys and values and returns the rows' attention.
  std::vector<float> Step(const std::vector<Session>& sessions, const std::vector<Piece>& batch) {
    std::vector<float> q;
    std::vector<float> k;
    std::vector<float> v;
    std::vector<KvRow> rows;
    const int q_cols = shape_.heads * shape_.head_dim;
    const int k_cols = shape_.kv_heads * shape_.head_dim;
    for (const Piece& p : batch) {
      const Session& s = sessions[p.session];
      q.insert(q.end(), s.q.begin() + p.begin * q_cols, s.q.begin() + p.end * q_cols);
      k.insert(k.end(), s.k.begin() + p.begin * k_cols, s.k.begin() + p.end * k_cols);
      v.insert(v.end(), s.v.begin() + p.begin * k_cols, s.v.begin() + p.end * k_cols);
      for (int t = p.begin; t < p.end; ++t) rows.push_back({t, s.pages.data()});
    }
    const int n = static_cast<int>(rows.size());
    auto dq = ToDevice(device_, q);
    auto dk = ToDevice(device_, k);
    auto dv = ToDevice(device_, v);
    auto out = *device_.Allocate(q.size());
    device_.WriteKv(dk->AsTensor(n, k_cols), dv->AsTensor(n, k_cols), rows, pages_.get());
    device_.Attention(dq->AsTensor(n, q_cols), rows, *pages_, out->AsTensor(n, q_cols));
    return FromDevice(device_, out->AsTensor(n, q_cols));
  }

 private:
  // What earlier sessions may have left: NaN everywhere.
  void FillWithGarbage() {
    std::vector<int32_t> table(kPoolPages);
    std::vector<KvRow> rows;
    for (int p = 0; p < kPoolPages; ++p) table[static_cast<size_t>(p)] = p;
    for (int t = 0; t < kPoolPages * kKvPageTokens; ++t) rows.push_back({t, table.data()});
    const int n = static_cast<int>(rows.size());
    const int cols = shape_.kv_heads * shape_.head_dim;
    auto garbage = ToDevice(device_, std::vector<float>(static_cast<size_t>(n * cols), NAN));
    device_.WriteKv(garbage->AsTensor(n, cols), garbage->AsTensor(n, cols), rows, pages_.get());
  }

  Device& device_;
  const Shape shape_;
  std::unique_ptr<KvPages> pages_;
};

// Attention of token `t` and head `head` in double precision.
std::vector<double> Reference(const Shape& shape, const Session& s, int t, int head) {
  const int dim = shape.head_dim;
  const int kv = head / (shape.heads / shape.kv_heads);
  const auto key = [&](int j) {
    return &s.k[static_cast<size_t>((j * shape.kv_heads + kv) * dim)];
  };
  const float* q = &s.q[static_cast<size_t>((t * shape.heads + head) * dim)];
  std::vector<double> p(static_cast<size_t>(t) + 1);
  double largest = -1e300;
  for (int j = 0; j <= t; ++j) {
    double dot = 0;
    for (int d = 0; d < dim; ++d) dot += static_cast<double>(q[d]) * static_cast<double>(key(j)[d]);
    p[static_cast<size_t>(j)] = dot / std::sqrt(static_cast<double>(dim));
    largest = std::max(largest, p[static_cast<size_t>(j)]);
  }
  double total = 0;
  for (double& v : p) total += v = std::exp(v - largest);
  std::vector<double> out(static_cast<size_t>(dim));
  for (int j = 0; j <= t; ++j) {
    const float* value = &s.v[static_cast<size_t>((j * shape.kv_heads + kv) * dim)];
    for (int d = 0; d < dim; ++d) {
      out[static_cast<size_t>(d)] +=
          p[static_cast<size_t>(j)] / total * static_cast<double>(value[d]);
    }
  }
  return out;
}

constexpr Shape kShapes[] = {{9, 3, 64}, {4, 4, 16}, {14, 2, 24}, {8, 1, 128}};

class AttentionTest : public ::testing::TestWithParam<std::tuple<CpuKernels, Arithmetic, int>> {
 protected:
  Shape shape() const { return kShapes[std::get<2>(GetParam())]; }
  std::unique_ptr<Device> Make(int threads) const {
    return MakeDevice(std::get<0>(GetParam()), std::get<1>(GetParam()), threads);
  }
  std::unique_ptr<Device> Oracle() const {
    return MakeDevice(CpuKernels::kScalar, std::get<1>(GetParam()), 1);
  }
};

// Float32 keys and values: 1e-5; float16 ones (11 bits) move a score of up to ~10 by 5e-3.
TEST_P(AttentionTest, IsCloseToDoublePrecision) {
  const auto sessions = MakeSessions(shape());
  auto device = Make(2);
  Cache cache(*device, shape());
  const double tolerance = std::get<1>(GetParam()) == Arithmetic::kExact ? 1e-5 : 1e-2;
  const int dim = shape().head_dim;
  for (size_t s = 0; s < sessions.size(); ++s) {
    const auto out = cache.Step(sessions, {{s, 0, sessions[s].tokens}});
    for (int t = 0; t < sessions[s].tokens; ++t) {
      for (int h = 0; h < shape().heads; ++h) {
        const auto want = Reference(shape(), sessions[s], t, h);
        for (int d = 0; d < dim; ++d) {
          const auto at = static_cast<size_t>((t * shape().heads + h) * dim + d);
          ASSERT_NEAR(out[at], want[static_cast<size_t>(d)], tolerance)
              << t << " " << h << " " << d;
        }
      }
    }
  }
}

TEST_P(AttentionTest, GivesTheSameBitsTokenByTokenInChunksAndInBatches) {
  const auto sessions = MakeSessions(shape());
  auto oracle = Oracle();
  Cache plain(*oracle, shape());
  std::vector<float> expected;
  for (int t = 0; t < sessions[2].tokens; ++t) {
    const auto out = plain.Step(sessions, {{2, t, t + 1}});
    expected.insert(expected.end(), out.begin(), out.end());
  }
  const int cols = shape().heads * shape().head_dim;
  for (const int threads : {1, 2, 3}) {
    auto device = Make(threads);
    Cache cache(*device, shape());
    EXPECT_TRUE(SameBits(cache.Step(sessions, {{2, 0, 130}}), expected));

    Cache chunked(*device, shape());
    std::vector<float> chunks;
    for (const auto& [begin, end] : {std::pair(0, 5), {5, 38}, {38, 64}, {64, 65}, {65, 130}}) {
      const auto out = chunked.Step(sessions, {{2, begin, end}});
      chunks.insert(chunks.end(), out.begin(), out.end());
    }
    EXPECT_TRUE(SameBits(chunks, expected));

    Cache mixed(*device, shape());
    mixed.Step(sessions, {{2, 0, 60}, {1, 0, 74}});
    const auto out = mixed.Step(sessions, {{0, 0, 1}, {2, 60, 130}, {1, 74, 75}});
    const std::vector<float> own(out.begin() + cols, out.begin() + 71 * cols);
    const std::vector<float> want(expected.begin() + 60 * cols, expected.end());
    EXPECT_TRUE(SameBits(own, want));
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest,
                         ::testing::Combine(::testing::ValuesIn(SupportedCpuKernels()),
                                            ::testing::Values(Arithmetic::kExact,
                                                              Arithmetic::kI8B32),
                                            ::testing::Range(0, 4)),
                         [](const auto& info) {
                           return KernelsName(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) == Arithmetic::kExact ? "_exact_"
                                                                                 : "_i8b32_") +
                                  std::to_string(std::get<2>(info.param));
                         });

}  // namespace
}  // namespace ccoe::compute
