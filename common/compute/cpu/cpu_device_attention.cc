#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/base/check.h"
#include "common/compute/cpu/cpu_device.h"

// Keys, values and attention of CpuDevice.
namespace ccoe::compute::cpu {
namespace {

// Writes one head's key of one token: its dimensions are kKvPageTokens apart.
template <typename Stored>
void ScatterKey(const Stored* key, int head_dim, std::byte* keys, int slot) {
  auto* to = reinterpret_cast<Stored*>(keys) + slot;
  for (int d = 0; d < head_dim; ++d) to[d * kKvPageTokens] = key[d];
}

int RoundUp(int value, int unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void CpuDevice::WriteKv(Tensor k, Tensor v, absl::Span<const KvRow> rows, KvPages* pages) {
  auto& cache = static_cast<CpuKvPages&>(*pages);
  const int dim = cache.shape().head_dim;
  const int heads = cache.shape().kv_heads;
  CCOE_CHECK(k.cols == heads * dim && v.cols == k.cols);
  CCOE_CHECK(static_cast<size_t>(k.rows) == rows.size() && v.rows == k.rows);
  for (const KvRow& row : rows) {
    const int page = row.pages[row.position / kKvPageTokens];
    CCOE_CHECK(page >= 0 && page < cache.page_count());
  }
  const size_t work = 2 * static_cast<size_t>(k.rows) * static_cast<size_t>(k.cols);
  For(k.rows, work, [&](int r, int) {
    const KvRow& row = rows[static_cast<size_t>(r)];
    const int slot = row.position % kKvPageTokens;
    std::byte* page = cache.page(row.pages[row.position / kKvPageTokens]);
    for (int h = 0; h < heads; ++h) {
      const float* key = k.Rows(r, 1).data + h * dim;
      const float* value = v.Rows(r, 1).data + h * dim;
      std::byte* values = page + cache.value_offset(h);
      const int at = slot * cache.value_stride();
      if (!cache.half()) {
        ScatterKey(key, dim, page + cache.key_offset(h), slot);
        std::memcpy(reinterpret_cast<float*>(values) + at, value,
                    static_cast<size_t>(dim) * sizeof(float));
        continue;
      }
      // The value's place holds the key until it is scattered.
      auto* half = reinterpret_cast<uint16_t*>(values) + at;
      kernels_.to_half(key, dim, half);
      ScatterKey(half, dim, page + cache.key_offset(h), slot);
      kernels_.to_half(value, dim, half);
    }
  });
}

void CpuDevice::PlanAttention(absl::Span<const KvRow> rows, int heads, int kv_heads) {
  attention_items_.clear();
  const int group = heads / kv_heads;
  const int count = static_cast<int>(rows.size());
  // Few sessions: smaller pieces, so that every thread has one.
  const bool few = count * kv_heads < 2 * pool_.threads();
  const int most = few ? 1 : kMaxQueries;
  for (int begin = 0; begin < count;) {
    int end = begin + 1;
    while (end < count &&
           rows[static_cast<size_t>(end)].pages == rows[static_cast<size_t>(begin)].pages) {
      ++end;
    }
    const int queries = (end - begin) * group;
    for (int h = 0; h < kv_heads; ++h) {
      for (int q = 0; q < queries; q += most) {
        attention_items_.push_back({begin, q, std::min(most, queries - q), h});
      }
    }
    begin = end;
  }
}

void CpuDevice::Attention(Tensor q, absl::Span<const KvRow> rows, const KvPages& pages,
                          Tensor out) {
  const auto& cache = static_cast<const CpuKvPages&>(pages);
  const int dim = cache.shape().head_dim;
  const int heads = q.cols / dim;
  CCOE_CHECK(q.cols % dim == 0 && heads % cache.shape().kv_heads == 0);
  CCOE_CHECK(static_cast<size_t>(q.rows) == rows.size());
  CCOE_CHECK(out.rows == q.rows && out.cols == q.cols);
  if (rows.empty()) return;
  int longest = 0;
  size_t work = 0;
  for (const KvRow& row : rows) {
    longest = std::max(longest, row.position);
    work += static_cast<size_t>(row.position + 1) * static_cast<size_t>(heads);
  }
  const size_t floats =
      static_cast<size_t>(kMaxQueries) *
      static_cast<size_t>(RoundUp(longest + 1, kKvPageTokens) + cache.value_stride());
  for (AlignedMemory& scratch : scratch_) {
    if (scratch.bytes() >= floats * sizeof(float)) continue;
    scratch = AlignedMemory(2 * floats * sizeof(float));
    CCOE_CHECK(scratch.data() != nullptr);
  }
  PlanAttention(rows, heads, cache.shape().kv_heads);
  For(static_cast<int>(attention_items_.size()), work * 8, [&](int i, int worker) {
    AttendItem(attention_items_[static_cast<size_t>(i)], q, rows, cache, out,
               scratch_[static_cast<size_t>(worker)]);
  });
}

void CpuDevice::AttendItem(const AttentionItem& item, Tensor q, absl::Span<const KvRow> rows,
                           const CpuKvPages& pages, Tensor out, AlignedMemory& scratch) {
  const int dim = pages.shape().head_dim;
  const int group = q.cols / dim / pages.shape().kv_heads;
  AttentionQuery queries[kMaxQueries];
  int longest = 0;
  for (int i = 0; i < item.query_count; ++i) {
    const int n = item.first_query + i;
    const int row = item.row + n / group;
    const int at = (item.kv_head * group + n % group) * dim;
    const int position = rows[static_cast<size_t>(row)].position;
    queries[i] = {q.Rows(row, 1).data + at, out.Rows(row, 1).data + at, position};
    longest = std::max(longest, position);
  }
  AttentionTask task;
  task.queries = queries;
  task.query_count = item.query_count;
  task.pages = rows[static_cast<size_t>(item.row)].pages;
  task.pool = pages.page(0);
  task.page_bytes = pages.page_bytes();
  task.key_offset = pages.key_offset(item.kv_head);
  task.value_offset = pages.value_offset(item.kv_head);
  task.head_dim = dim;
  task.value_stride = pages.value_stride();
  task.scale = 1.0f / std::sqrt(static_cast<float>(dim));
  task.score_stride = static_cast<size_t>(RoundUp(longest + 1, kKvPageTokens));
  task.scores = scratch.as<float>();
  task.sums = task.scores + static_cast<size_t>(item.query_count) * task.score_stride;
  if (pages.half()) {
    kernels_.attention_f16(task);
  } else {
    kernels_.attention_f32(task);
  }
}

}  // namespace ccoe::compute::cpu
