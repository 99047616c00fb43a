// Scalar fp32 functions that a compiler can vectorise: straight-line code, selections instead of branches.
//
// Inside `#pragma omp simd` loops they become vector code with -O3 -fno-math-errno -fno-trapping-math (neither flag
// changes a result; without them GCC keeps sqrt's errno check and will not evaluate both sides of a selection). With
// -ffp-contract=off every fused multiply-add is one that is written here, in the vector loop and its remainder. Limits,
// NaN, infinities and signed zeros are those of libm unless a comment says otherwise. The errors stated are the largest
// found against double precision over a dense sample of all floats, tests/cpu/test_math.py holds them.
#pragma once

#include <cmath>
#include <cstdint>

#include "types.h"
#include "vec.h"

namespace onelaunch {

namespace detail {

inline constexpr float kLog2e = 0x1.715476p+0f;
// ln 2 in two parts; the first has so few bits that n * kLn2High is exact for every exponent n.
inline constexpr float kLn2High = 0x1.63p-1f;
inline constexpr float kLn2Low = -0x1.bd0106p-13f;
inline constexpr float kRound = 0x1.8p+23f;  // adding and subtracting it rounds to an integer

inline float power_of_two(int32_t n) { return bit_cast<float>((n + 127) << 23); }

inline float clamp(float x, float low, float high) {
  x = x < low ? low : x;  // NaN passes through
  return x > high ? high : x;
}

// x = n * ln 2 + r with |r| <= ln 2 / 2; returns r.
inline float reduce(float x, int32_t& n) {
  const float shifted = fma(x, kLog2e, kRound);
  n = int32_t(bit_cast<uint32_t>(shifted) - bit_cast<uint32_t>(kRound));
  const float k = shifted - kRound;
  return fma(k, -kLn2Low, fma(k, -kLn2High, x));
}

// exp(r) - 1 for |r| <= ln 2 / 2.
inline float exp_less_one(float r) {
  float p = 1.9875691500e-4f;
  p = fma(p, r, 1.3981999507e-3f);
  p = fma(p, r, 8.3334519073e-3f);
  p = fma(p, r, 4.1665795894e-2f);
  p = fma(p, r, 1.6666665459e-1f);
  p = fma(p, r, 5.0000001201e-1f);
  return fma(p, r * r, r);
}

}  // namespace detail

// <= 1.1 ulp, subnormal results included.
inline float exp(float x) {
  int32_t n;
  const float r = detail::reduce(detail::clamp(x, -104.0f, 89.0f), n);
  const float p = detail::exp_less_one(r) + 1.0f;
  const int32_t half = n >> 1;  // two steps: 2^n itself may be out of range where the result is not
  return p * detail::power_of_two(half) * detail::power_of_two(n - half);
}

// <= 1.5 ulp.
inline float expm1(float x) {
  int32_t n;
  const float r = detail::reduce(detail::clamp(x, -20.0f, 89.0f), n);
  const float p = detail::exp_less_one(r);
  const float half = detail::power_of_two(n - 1);
  const float wide = 2.0f * fma(p, half, half - 0.5f);
  const float result = n == 0 ? p : wide;
  return x == 0.0f ? x : result;
}

// <= 1.0 ulp.
inline float log(float x) {
  const bool tiny = x < 0x1p-126f;
  const uint32_t bits = bit_cast<uint32_t>(tiny ? x * 0x1p+23f : x);
  // m in [sqrt(1/2), sqrt(2)), e its exponent
  const int32_t e = int32_t(bits - 0x3F3504F3u) >> 23;
  const float f = bit_cast<float>(bits - (uint32_t(e) << 23)) - 1.0f;
  const float k = float(tiny ? e - 23 : e);
  float p = 7.0376836292e-2f;
  p = fma(p, f, -1.1514610310e-1f);
  p = fma(p, f, 1.1676998740e-1f);
  p = fma(p, f, -1.2420140846e-1f);
  p = fma(p, f, 1.4249322787e-1f);
  p = fma(p, f, -1.6668057665e-1f);
  p = fma(p, f, 2.0000714765e-1f);
  p = fma(p, f, -2.4999993993e-1f);
  p = fma(p, f, 3.3333331174e-1f);
  const float square = f * f;
  float y = p * f * square;
  y = fma(k, detail::kLn2Low, y);
  y = fma(-0.5f, square, y);
  y = fma(k, detail::kLn2High, f + y);
  y = x == INFINITY ? x : y;
  y = x == 0.0f ? -INFINITY : y;
  return x < 0.0f ? NAN : (x != x ? x : y);
}

// <= 2.0 ulp.
inline float log1p(float x) {
  const float u = 1.0f + x;
  const float logarithm = log(u);
  const float correction = (x - (u - 1.0f)) / u;  // what rounding 1 + x lost
  const bool whole = u == 0.0f || u == INFINITY;
  const float y = whole ? logarithm : logarithm + correction;
  return x == 0.0f ? x : y;
}

inline float log2(float x) { return log(x) * detail::kLog2e; }         // <= 2.5 ulp
inline float log10(float x) { return log(x) * 0x1.bcb7b2p-2f; }        // <= 2.5 ulp
inline float exp2(float x) {                                           // <= 1.1 ulp
  const float clamped = detail::clamp(x, -151.0f, 129.0f);
  const float shifted = clamped + detail::kRound;
  const int32_t n = int32_t(bit_cast<uint32_t>(shifted) - bit_cast<uint32_t>(detail::kRound));
  const float part = clamped - (shifted - detail::kRound);
  const float r = part * 0x1.62e43p-1f;
  const float low = fma(part, 0x1.62e43p-1f, -r) + part * -0x1.05c61p-29f;
  const float p = detail::exp_less_one(r) + low + 1.0f;
  const int32_t half = n >> 1;
  return p * detail::power_of_two(half) * detail::power_of_two(n - half);
}

// <= 2.0 ulp.
inline float tanh(float x) {
  const float magnitude = std::fabs(x);
  const float square = x * x;
  float p = -5.70498872745e-3f;
  p = fma(p, square, 2.06390887954e-2f);
  p = fma(p, square, -5.37397155531e-2f);
  p = fma(p, square, 1.33314422036e-1f);
  p = fma(p, square, -3.33332819422e-1f);
  const float near = fma(p * square, x, x);
  const float far = 1.0f - 2.0f / (exp(2.0f * magnitude) + 1.0f);
  return magnitude < 0.625f ? near : std::copysign(far, x);
}

// <= 2.5 ulp down to exp(x) = 2^-128; below, 0 where the exact result is subnormal (as in eager torch).
inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// x * sigmoid(x); <= 3 ulp, with the same exception.
inline float silu(float x) { return x / (1.0f + exp(-x)); }

// <= 1.5 ulp. Two polynomials: one for erf, one for the logarithm of 1 - erf (after N. Juffa).
inline float erf(float x) {
  const float t = detail::clamp(std::fabs(x), 0.0f, 4.0f);
  const float s = t * t;
  float far = fma(-1.72853470e-5f, t, 3.83197126e-4f);
  far = fma(far, s, fma(-3.88396438e-3f, t, 2.42546219e-2f));
  far = fma(far, t, -1.06777877e-1f);
  far = fma(far, t, -6.34846687e-1f);
  far = fma(far, t, -1.28717512e-1f);
  far = fma(far, t, -t);
  const float outer = std::copysign(1.0f - exp(far), x);
  float near = -5.96761703e-4f;
  near = fma(near, s, 4.99119423e-3f);
  near = fma(near, s, -2.67681349e-2f);
  near = fma(near, s, 1.12819925e-1f);
  near = fma(near, s, -3.76125336e-1f);
  near = fma(near, s, 1.28379166e-1f);
  const float inner = fma(near, x, x);
  return t > 0.927734375f ? outer : inner;
}

// The two forms of torch.nn.functional.gelu, computed as eager computes them. Where they cancel (x below about -2) the
// error is absolute: <= 2e-7 of |x|.
inline float gelu_erf(float x) { return 0.5f * x * (1.0f + erf(x * 0x1.6a09e6p-1f)); }
inline float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanh(0x1.988454p-1f * fma(0.044715f * x * x, x, x)));
}

inline float sqrt(float x) { return __builtin_sqrtf(x); }        // exact
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }  // <= 1.5 ulp: never the machine's approximation

// log(1 + exp(x)) without overflow; <= 3 ulp. Beta and threshold are the graph's business.
inline float softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1p(exp(-std::fabs(x))); }

// As torch.maximum and torch.minimum: NaN if either is.
inline float maximum(float a, float b) { return a != a ? a : (b != b || b > a) ? b : a; }
inline float minimum(float a, float b) { return a != a ? a : (b != b || b < a) ? b : a; }

// Rare in a decode step, so libm's are good enough; they are called element by element.
inline float sin(float x) { return ::sinf(x); }
inline float cos(float x) { return ::cosf(x); }
inline float tan(float x) { return ::tanf(x); }
inline float asin(float x) { return ::asinf(x); }
inline float acos(float x) { return ::acosf(x); }
inline float atan(float x) { return ::atanf(x); }
inline float atan2(float y, float x) { return ::atan2f(y, x); }
inline float sinh(float x) { return ::sinhf(x); }
inline float cosh(float x) { return ::coshf(x); }
inline float pow(float x, float y) { return ::powf(x, y); }
inline float fmod(float x, float y) { return ::fmodf(x, y); }

// These are single instructions on most machines.
inline float abs(float x) { return __builtin_fabsf(x); }
inline float floor(float x) { return __builtin_floorf(x); }
inline float ceil(float x) { return __builtin_ceilf(x); }
inline float trunc(float x) { return __builtin_truncf(x); }
inline float round(float x) { return __builtin_nearbyintf(x); }  // ties to even, as torch.round

}  // namespace onelaunch
