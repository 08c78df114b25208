#pragma once

#include <immintrin.h>

#include <cstdint>

namespace ccoe::compute::cpu {

// Sixteen float32 lanes in one register.
struct Vec512 {
  // Rows of a float product, and queries and vectors of values of attention, held in registers.
  static constexpr int kFloatRows = 8;
  static constexpr int kQueries = 6;
  static constexpr int kValueVectors = 4;

  __m512 v;

  static Vec512 Zero() { return {_mm512_setzero_ps()}; }
  static Vec512 Set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec512 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec512 Load(const uint16_t* half) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)))};
  }
  static Vec512 LoadBf16(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  static __mmask16 First(int n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1 << n) - 1); }
  // The first n lanes; the others are zero and their memory is not touched.
  static Vec512 LoadFirst(const float* p, int n) { return {_mm512_maskz_loadu_ps(First(n), p)}; }
  static void StoreFirst(Vec512 a, float* p, int n) { _mm512_mask_storeu_ps(p, First(n), a.v); }
  static void Store(Vec512 a, float* p) { _mm512_storeu_ps(p, a.v); }
  static void StoreHalf(Vec512 a, uint16_t* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static Vec512 KeepFirst(Vec512 a, int n, float fill) {
    return {_mm512_mask_blend_ps(First(n), _mm512_set1_ps(fill), a.v)};
  }

  static Vec512 Add(Vec512 a, Vec512 b) { return {_mm512_add_ps(a.v, b.v)}; }
  static Vec512 Sub(Vec512 a, Vec512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static Vec512 Mul(Vec512 a, Vec512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static Vec512 Div(Vec512 a, Vec512 b) { return {_mm512_div_ps(a.v, b.v)}; }
  static Vec512 Fma(Vec512 a, Vec512 b, Vec512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  // b when either is NaN.
  static Vec512 Min(Vec512 a, Vec512 b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec512 Max(Vec512 a, Vec512 b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec512 Round(Vec512 a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^n for whole n in [-126, 127].
  static Vec512 PowerOfTwo(Vec512 n) {
    const __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(e, 23))};
  }
  // 0 where x < low, else a.
  static Vec512 ZeroBelow(Vec512 x, float low, Vec512 a) {
    const __mmask16 below = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(low), _CMP_LT_OQ);
    return {_mm512_mask_blend_ps(below, a.v, _mm512_setzero_ps())};
  }

  static float TreeSum(Vec512 a) {
    const __m256 high = _mm512_extractf32x8_ps(a.v, 1);
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), high);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
  }
  static float MaxOf(Vec512 a) { return _mm512_reduce_max_ps(a.v); }

  // The largest |x| of 32 values as bits.
  static uint32_t LargestBits(const float* x) {
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), mask);
    const __m512i b = _mm512_and_si512(_mm512_loadu_si512(x + 16), mask);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
  }
  // The integers in [-127, 127] next to 16 lanes.
  static Vec512 RoundToInt8(Vec512 a) { return Min(Set(127.0f), Max(Set(-127.0f), Round(a))); }
  // Stores what RoundToInt8 gave, returns its sum.
  static int32_t StoreInt8(Vec512 a, int8_t* p) {
    const __m512i q = _mm512_cvtps_epi32(a.v);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(q));
    return _mm512_reduce_add_epi32(q);
  }
};

}  // namespace ccoe::compute::cpu
