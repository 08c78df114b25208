#pragma once

#include "common/compute/cpu/elementwise_inl.h"
#include "common/compute/cpu/kernels.h"

// Attention over a vector type of sixteen lanes. Keys and values are read once for all queries of a
// task; no sum of a query mixes with another's.
namespace ccoe::compute::cpu {

static_assert(kKvPageTokens == 32);

// Tokens of the page that begins at `begin` which a query attends to.
template <class V>
inline int TokensOf(const AttentionQuery& query, int begin) {
  const int count = query.position + 1 - begin;
  return count < 0 ? 0 : (count > kKvPageTokens ? kKvPageTokens : count);
}

template <class V, typename Stored>
inline const Stored* PagePart(const AttentionTask& task, int page, size_t offset) {
  return reinterpret_cast<const Stored*>(
      task.pool + static_cast<size_t>(task.pages[page]) * task.page_bytes + offset);
}

// Scores of Q queries from number `first` on: lane = token, head dimensions ascending. Tokens that
// a query does not attend to score -infinity. Returns each query's largest score.
template <class V, typename Stored, int Q>
void ScorePages(const AttentionTask& task, int first, int pages, float* largest) {
  const float* q[Q];
  V best[Q];
#pragma GCC unroll 8
  for (int n = 0; n < Q; ++n) {
    q[n] = task.queries[first + n].q;
    best[n] = V::Set(-__builtin_inff());
  }
  for (int page = 0; page < pages; ++page) {
    const Stored* keys = PagePart<V, Stored>(task, page, task.key_offset);
    V s[Q][2];
#pragma GCC unroll 8
    for (int n = 0; n < Q; ++n) s[n][0] = s[n][1] = V::Zero();
    for (int d = 0; d < task.head_dim; ++d, keys += kKvPageTokens) {
      const V k0 = V::Load(keys);
      const V k1 = V::Load(keys + 16);
#pragma GCC unroll 8
      for (int n = 0; n < Q; ++n) {
        const V qd = V::Set(q[n][d]);
        s[n][0] = V::Fma(k0, qd, s[n][0]);
        s[n][1] = V::Fma(k1, qd, s[n][1]);
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < Q; ++n) {
      const int count = TokensOf<V>(task.queries[first + n], page * kKvPageTokens);
      float* to = task.scores + static_cast<size_t>(first + n) * task.score_stride +
                  static_cast<size_t>(page) * kKvPageTokens;
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        V v = V::Mul(s[n][half], V::Set(task.scale));
        const int left = count - 16 * half;
        if (left < 16) v = V::KeepFirst(v, left < 0 ? 0 : left, -__builtin_inff());
        best[n] = V::Max(v, best[n]);
        V::Store(v, to + 16 * half);
      }
    }
  }
  for (int n = 0; n < Q; ++n) largest[n] = V::MaxOf(best[n]);
}

// Replaces a query's scores by exp(score - largest); returns their sum.
template <class V>
float ExpScores(const AttentionTask& task, int query, float largest) {
  const int pages = task.queries[query].position / kKvPageTokens + 1;
  float* scores = task.scores + static_cast<size_t>(query) * task.score_stride;
  const V shift = V::Set(largest);
  V sum = V::Zero();
  for (int page = 0; page < pages; ++page, scores += kKvPageTokens) {
    const V a = Exp<V>(V::Sub(V::Load(scores), shift));
    const V b = Exp<V>(V::Sub(V::Load(scores + 16), shift));
    V::Store(a, scores);
    V::Store(b, scores + 16);
    sum = V::Add(sum, V::Add(a, b));
  }
  return V::TreeSum(sum);
}

// Adds one page's weighted values to the sums of Q queries, C vectors of dimensions from
// `dimension` on.
template <class V, typename Stored, int Q, int C>
void AddValues(const AttentionTask& task, int first, int page, int dimension) {
  const int begin = page * kKvPageTokens;
  const Stored* values = PagePart<V, Stored>(task, page, task.value_offset) + dimension;
  const float* p = task.scores + static_cast<size_t>(first) * task.score_stride + begin;
  int count[Q];
  int common = kKvPageTokens;
  for (int n = 0; n < Q; ++n) {
    count[n] = TokensOf<V>(task.queries[first + n], begin);
    if (count[n] < common) common = count[n];
  }
  V partial[Q][C];
#pragma GCC unroll 8
  for (int n = 0; n < Q; ++n) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) partial[n][c] = V::Zero();
  }
  for (int j = 0; j < common; ++j) {
    V value[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) value[c] = V::Load(values + j * task.value_stride + 16 * c);
#pragma GCC unroll 8
    for (int n = 0; n < Q; ++n) {
      const V weight = V::Set(p[static_cast<size_t>(n) * task.score_stride + j]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) partial[n][c] = V::Fma(value[c], weight, partial[n][c]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < Q; ++n) {
    if (count[n] == 0) continue;
    float* sums = task.sums + (first + n) * task.value_stride + dimension;
    for (int j = common; j < count[n]; ++j) {
      const V weight = V::Set(p[static_cast<size_t>(n) * task.score_stride + j]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        partial[n][c] =
            V::Fma(V::Load(values + j * task.value_stride + 16 * c), weight, partial[n][c]);
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      V::Store(V::Add(V::Load(sums + 16 * c), partial[n][c]), sums + 16 * c);
    }
  }
}

template <class V, typename Stored, int Q>
void AttendTile(const AttentionTask& task, int first) {
  int pages = 0;
  for (int n = first; n < first + Q; ++n) {
    const int own = task.queries[n].position / kKvPageTokens + 1;
    if (own > pages) pages = own;
  }
  float largest[Q];
  float total[Q];
  ScorePages<V, Stored, Q>(task, first, pages, largest);
  for (int n = 0; n < Q; ++n) total[n] = ExpScores<V>(task, first + n, largest[n]);
  for (int i = first * task.value_stride; i < (first + Q) * task.value_stride; i += 16) {
    V::Store(V::Zero(), task.sums + i);
  }
  constexpr int kC = V::kValueVectors;
  for (int page = 0; page < pages; ++page) {
    int d = 0;
    for (; d + 16 * kC <= task.value_stride; d += 16 * kC) {
      AddValues<V, Stored, Q, kC>(task, first, page, d);
    }
    for (; d < task.value_stride; d += 16) AddValues<V, Stored, Q, 1>(task, first, page, d);
  }
  for (int n = 0; n < Q; ++n) {
    const float* sums = task.sums + (first + n) * task.value_stride;
    float* out = task.queries[first + n].out;
    for (int d = 0; d < task.head_dim; d += 16) {
      const int left = task.head_dim - d;
      V::StoreFirst(V::Div(V::Load(sums + d), V::Set(total[n])), out + d, left < 16 ? left : 16);
    }
  }
}

template <class V, typename Stored>
void Attention(const AttentionTask& task) {
  int first = 0;
  while (first < task.query_count) {
    const int left = task.query_count - first;
    if constexpr (V::kQueries >= 6) {
      if (left >= 6) {
        AttendTile<V, Stored, 6>(task, first);
        first += 6;
        continue;
      }
    }
    switch (left < V::kQueries ? left : V::kQueries) {
      case 1:
        AttendTile<V, Stored, 1>(task, first);
        first += 1;
        break;
      case 2:
        AttendTile<V, Stored, 2>(task, first);
        first += 2;
        break;
      default:
        AttendTile<V, Stored, 3>(task, first);
        first += 3;
        break;
    }
  }
}

}  // namespace ccoe::compute::cpu
