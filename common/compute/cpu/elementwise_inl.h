#pragma once

#include "common/compute/cpu/kernels.h"

// Operations over a vector type of sixteen lanes, compiled once per instruction set.
namespace ccoe::compute::cpu {

template <class V>
inline V Exp(V x) {
  const V c = V::Max(V::Set(kExpLow), V::Min(V::Set(kExpHigh), x));
  const V n = V::Round(V::Mul(c, V::Set(kLog2E)));
  V r = V::Fma(n, V::Set(kMinusLn2High), c);
  r = V::Fma(n, V::Set(kMinusLn2Low), r);
  V p = V::Set(kExpPolynomial[0]);
  for (int i = 1; i < 6; ++i) p = V::Fma(p, r, V::Set(kExpPolynomial[i]));
  const V y = V::Add(V::Fma(V::Mul(r, r), p, r), V::Set(1.0f));
  return V::ZeroBelow(x, kExpLow, V::Mul(y, V::PowerOfTwo(n)));
}

template <class V>
float SumOfSquares(const float* x, int n) {
  V sum = V::Zero();
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    const V v = V::Load(x + i);
    sum = V::Fma(v, v, sum);
  }
  if (i < n) {
    const V v = V::LoadFirst(x + i, n - i);
    sum = V::Fma(v, v, sum);
  }
  return V::TreeSum(sum);
}

// One row's block, the two halves of which are `a` and `b`, and the part of them that the integers
// leave over.
template <class V>
inline void QuantizePlane(V* a, V* b, float scale, int row, QuantizedPlane* plane) {
  // Neither a block of zeros nor one that is not finite has quantised values.
  const bool zero = !(scale > 0);
  const V divisor = V::Set(zero ? 1.0f : scale);
  const V qa = V::RoundToInt8(zero ? V::Zero() : V::Div(*a, divisor));
  const V qb = V::RoundToInt8(zero ? V::Zero() : V::Div(*b, divisor));
  const int32_t first = V::StoreInt8(qa, plane->q[row]);
  const int32_t sum = first + V::StoreInt8(qb, plane->q[row] + 16);
  plane->scale[row] = scale;
  plane->sum[row] = sum;
  plane->first_half_sum[row] = first;
  const V minus_scale = V::Set(0.0f - scale);
  *a = V::Fma(minus_scale, qa, *a);
  *b = V::Fma(minus_scale, qb, *b);
}

template <class V>
void Quantize(const float* x, int blocks, int row, QuantizedBlock* tile) {
  const int n = blocks * kBlock;
  const float mean = SumOfSquares<V>(x, n) / static_cast<float>(n);
  const float limit = kFineRatio * __builtin_sqrtf(mean);
  for (int block = 0; block < blocks; ++block, x += kBlock, ++tile) {
    const uint32_t bits = V::LargestBits(x);
    const float largest = __builtin_bit_cast(float, bits);
    const float scale = bits < 0x7f800000u ? largest / 127.0f : __builtin_nanf("");
    V a = V::Load(x);
    V b = V::Load(x + 16);
    QuantizePlane(&a, &b, scale, row, &tile->high);
    float scaled_sum = scale * static_cast<float>(tile->high.sum[row]);
    const bool fine = largest > limit;
    if (fine) {
      const float low_scale = scale / 254.0f;
      QuantizePlane(&a, &b, low_scale, row, &tile->low);
      scaled_sum = __builtin_fmaf(low_scale, static_cast<float>(tile->low.sum[row]), scaled_sum);
    }
    tile->fine[row] = fine ? 1 : 0;
    tile->scaled_sum[row] = scaled_sum;
  }
}

template <class V>
void RmsNorm(const float* x, const float* weight, float epsilon, int n, float* out) {
  const float mean = SumOfSquares<V>(x, n) / static_cast<float>(n);
  const V r = V::Set(1.0f / __builtin_sqrtf(mean + epsilon));
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    V::Store(V::Mul(V::Mul(V::Load(x + i), r), V::Load(weight + i)), out + i);
  }
  if (i < n) {
    const V v = V::LoadFirst(x + i, n - i);
    V::StoreFirst(V::Mul(V::Mul(v, r), V::LoadFirst(weight + i, n - i)), out + i, n - i);
  }
}

template <class V>
inline V SwiGluLanes(V gate, V up) {
  const V e = Exp<V>(V::Sub(V::Zero(), gate));
  return V::Mul(V::Div(gate, V::Add(V::Set(1.0f), e)), up);
}

template <class V>
void SwiGlu(const float* gate, const float* up, int n, float* out) {
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    V::Store(SwiGluLanes<V>(V::Load(gate + i), V::Load(up + i)), out + i);
  }
  if (i < n) {
    const int rest = n - i;
    V::StoreFirst(SwiGluLanes<V>(V::LoadFirst(gate + i, rest), V::LoadFirst(up + i, rest)), out + i,
                  rest);
  }
}

template <class V>
void Rope(float* x, int head_dim, const float* cos, const float* sin) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; i += 16) {
    const int n = half - i < 16 ? half - i : 16;
    const V a = V::LoadFirst(x + i, n);
    const V b = V::LoadFirst(x + half + i, n);
    const V c = V::LoadFirst(cos + i, n);
    const V s = V::LoadFirst(sin + i, n);
    V::StoreFirst(V::Fma(a, c, V::Sub(V::Zero(), V::Mul(b, s))), x + i, n);
    V::StoreFirst(V::Fma(b, c, V::Mul(a, s)), x + half + i, n);
  }
}

template <class V>
void ToHalf(const float* from, int n, uint16_t* to) {
  int i = 0;
  for (; i + 16 <= n; i += 16) V::StoreHalf(V::Load(from + i), to + i);
  if (i < n) {
    uint16_t rest[16];
    V::StoreHalf(V::LoadFirst(from + i, n - i), rest);
    for (int j = 0; i + j < n; ++j) to[i + j] = rest[j];
  }
}

}  // namespace ccoe::compute::cpu
