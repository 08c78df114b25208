#pragma once

#include <immintrin.h>

#include <cstdint>

namespace ccoe::compute::cpu {

// Sixteen float32 lanes in two registers.
struct Vec256 {
  // Rows of a float product, and queries and vectors of values of attention, held in registers.
  static constexpr int kFloatRows = 3;
  static constexpr int kQueries = 3;
  static constexpr int kValueVectors = 2;

  __m256 lo;
  __m256 hi;

  static Vec256 Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vec256 Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Vec256 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vec256 Load(const uint16_t* half) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + 8)))};
  }
  static __m256 WidenBf16(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Vec256 LoadBf16(const uint16_t* p) { return {WidenBf16(p), WidenBf16(p + 8)}; }
  // All bits set in the lanes below n of lanes first..first + 7.
  static __m256i Below(int n, int first) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), lanes);
  }
  // The first n lanes; the others are zero and their memory is not touched.
  static Vec256 LoadFirst(const float* p, int n) {
    return {_mm256_maskload_ps(p, Below(n, 0)), _mm256_maskload_ps(p + 8, Below(n, 8))};
  }
  static void StoreFirst(Vec256 a, float* p, int n) {
    _mm256_maskstore_ps(p, Below(n, 0), a.lo);
    _mm256_maskstore_ps(p + 8, Below(n, 8), a.hi);
  }
  static void Store(Vec256 a, float* p) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
  }
  static void StoreHalf(Vec256 a, uint16_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8),
                     _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static Vec256 KeepFirst(Vec256 a, int n, float fill) {
    const __m256 f = _mm256_set1_ps(fill);
    return {_mm256_blendv_ps(f, a.lo, _mm256_castsi256_ps(Below(n, 0))),
            _mm256_blendv_ps(f, a.hi, _mm256_castsi256_ps(Below(n, 8)))};
  }

  static Vec256 Add(Vec256 a, Vec256 b) {
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
  }
  static Vec256 Sub(Vec256 a, Vec256 b) {
    return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
  }
  static Vec256 Mul(Vec256 a, Vec256 b) {
    return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
  }
  static Vec256 Div(Vec256 a, Vec256 b) {
    return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
  }
  static Vec256 Fma(Vec256 a, Vec256 b, Vec256 c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  // b when either is NaN.
  static Vec256 Min(Vec256 a, Vec256 b) {
    return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
  }
  static Vec256 Max(Vec256 a, Vec256 b) {
    return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
  }
  static Vec256 Round(Vec256 a) {
    return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
            _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  static __m256 PowerOfTwo8(__m256 n) {
    const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
  }
  // 2^n for whole n in [-126, 127].
  static Vec256 PowerOfTwo(Vec256 n) { return {PowerOfTwo8(n.lo), PowerOfTwo8(n.hi)}; }
  // 0 where x < low, else a.
  static Vec256 ZeroBelow(Vec256 x, float low, Vec256 a) {
    const __m256 bound = _mm256_set1_ps(low);
    return {_mm256_andnot_ps(_mm256_cmp_ps(x.lo, bound, _CMP_LT_OQ), a.lo),
            _mm256_andnot_ps(_mm256_cmp_ps(x.hi, bound, _CMP_LT_OQ), a.hi)};
  }

  static float TreeSum(Vec256 a) {
    const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
  }
  static float MaxOf(Vec256 a) {
    const __m256 m8 = _mm256_max_ps(a.lo, a.hi);
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
  }

  static __m256i Magnitude(const float* x) {
    return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)),
                            _mm256_set1_epi32(0x7fffffff));
  }
  // The largest |x| of 32 values as bits.
  static uint32_t LargestBits(const float* x) {
    const __m256i m8 = _mm256_max_epi32(_mm256_max_epi32(Magnitude(x), Magnitude(x + 8)),
                                        _mm256_max_epi32(Magnitude(x + 16), Magnitude(x + 24)));
    const __m128i m4 = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    const __m128i m2 = _mm_max_epi32(m4, _mm_shuffle_epi32(m4, 0x4e));
    const __m128i m1 = _mm_max_epi32(m2, _mm_shuffle_epi32(m2, 0xb1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(m1));
  }
  // The integers in [-127, 127] next to 16 lanes.
  static Vec256 RoundToInt8(Vec256 a) { return Min(Set(127.0f), Max(Set(-127.0f), Round(a))); }
  // Stores what RoundToInt8 gave, returns its sum.
  static int32_t StoreInt8(Vec256 a, int8_t* p) {
    const __m256i q0 = _mm256_cvtps_epi32(a.lo);
    const __m256i q1 = _mm256_cvtps_epi32(a.hi);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(q0, q1), 0xd8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    const __m256i s8 = _mm256_add_epi32(q0, q1);
    const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
    const __m128i s2 = _mm_add_epi32(s4, _mm_shuffle_epi32(s4, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 0xb1)));
  }
};

}  // namespace ccoe::compute::cpu
