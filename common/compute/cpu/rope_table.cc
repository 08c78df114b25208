#include "common/compute/cpu/rope_table.h"

#include <cmath>

namespace ccoe::compute::cpu {
namespace {

// Polynomials on [-pi/4, pi/4] of fdlibm (k_sin.c, k_cos.c).
double SinReduced(double r) {
  const double z = r * r;
  double p = 1.58969099521155010221e-10;
  p = p * z + -2.50507602534068634195e-08;
  p = p * z + 2.75573137070700676789e-06;
  p = p * z + -1.98412698298579493134e-04;
  p = p * z + 8.33333333332248946124e-03;
  p = p * z + -1.66666666666666324348e-01;
  return r + r * z * p;
}

double CosReduced(double r) {
  const double z = r * r;
  double p = -1.13596475577881948265e-11;
  p = p * z + 2.08757232129817482790e-09;
  p = p * z + -2.75573143513906633035e-07;
  p = p * z + 2.48015872894767294178e-05;
  p = p * z + -1.38888888888741095749e-03;
  p = p * z + 4.16666666666666019037e-02;
  return 1.0 - 0.5 * z + z * z * p;
}

}  // namespace

SinCos SinCosOf(double angle) {
  // pi/2 in three parts; products of the first two with a quarter count below 2^20 are exact.
  constexpr double kTwoOverPi = 6.36619772367581382433e-01;
  constexpr double kHalfPi1 = 1.57079632673412561417e+00;
  constexpr double kHalfPi2 = 6.07710050630396597660e-11;
  constexpr double kHalfPi3 = 2.02226624879595063154e-21;
  const double quarters = std::nearbyint(angle * kTwoOverPi);
  double r = angle - quarters * kHalfPi1;
  r = r - quarters * kHalfPi2;
  r = r - quarters * kHalfPi3;
  const double s = SinReduced(r);
  const double c = CosReduced(r);
  switch (static_cast<int64_t>(quarters) & 3) {
    case 0:
      return {s, c};
    case 1:
      return {c, -s};
    case 2:
      return {-s, -c};
    default:
      return {-c, s};
  }
}

CpuRopeTable::CpuRopeTable(absl::Span<const float> inverse_frequencies, int positions)
    : half_(static_cast<int>(inverse_frequencies.size())),
      positions_(positions),
      memory_(static_cast<size_t>(positions) * inverse_frequencies.size() * 2 * sizeof(float)) {
  if (!allocated()) return;
  float* to = memory_.as<float>();
  for (int position = 0; position < positions; ++position, to += 2 * half_) {
    for (int i = 0; i < half_; ++i) {
      const float angle =
          static_cast<float>(position) * inverse_frequencies[static_cast<size_t>(i)];
      const SinCos value = SinCosOf(static_cast<double>(angle));
      to[i] = static_cast<float>(value.cos);
      to[half_ + i] = static_cast<float>(value.sin);
    }
  }
}

}  // namespace ccoe::compute::cpu
