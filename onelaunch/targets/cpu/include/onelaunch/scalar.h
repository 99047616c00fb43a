// Scalar operations of generated code, with the semantics of expressions (docs/numerics.md): Python's integer division,
// minimum and maximum that propagate NaN, indices picked by data that are checked before they are used.
//
// Everything is branch-free where a loop of it should vectorise.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "math.h"
#include "task.h"
#include "types.h"

namespace onelaunch {

template <class T>
using float_limits = std::numeric_limits<T>;

// Neutral elements of maximum and minimum.
template <class T>
constexpr T lowest() {
  return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
}
template <class T>
constexpr T highest() {
  return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
}

inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
inline double minimum(double a, double b) { return (a < b) | (a != a) ? a : b; }
inline double maximum(double a, double b) { return (a > b) | (a != a) ? a : b; }

#pragma omp declare reduction(minimum : float, double, int64_t : omp_out = onelaunch::minimum(omp_out, omp_in)) \
    initializer(omp_priv = onelaunch::highest<decltype(omp_priv)>())
#pragma omp declare reduction(maximum : float, double, int64_t : omp_out = onelaunch::maximum(omp_out, omp_in)) \
    initializer(omp_priv = onelaunch::lowest<decltype(omp_priv)>())

// Division by zero gives zero, and the most negative number divided by -1 wraps: neither may stop the process.
inline int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return int64_t(-uint64_t(a));
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}
inline int64_t floor_mod(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

template <class T>
inline T float_mod(T a, T b) {
  const T rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
template <class T>
inline T float_div(T a, T b) {  // as torch: from the exact remainder, so that it agrees with floor_mod
  if (b == 0) return a / b;
  const T rest = std::fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(T(0), a / b);
  const T floored = std::floor(quotient);
  return quotient - floored > T(0.5) ? floored + 1 : floored;
}
inline float floor_div(float a, float b) { return float_div(a, b); }
inline double floor_div(double a, double b) { return float_div(a, b); }
inline float floor_mod(float a, float b) { return float_mod(a, b); }
inline double floor_mod(double a, double b) { return float_mod(a, b); }
inline int64_t fmod(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }

template <class T>
inline T sign(T x) {
  return T(x > 0) - T(x < 0);
}
template <class T>
inline bool is_nan(T x) {
  return x != x;
}
inline int64_t abs(int64_t x) { return x < 0 ? -x : x; }
inline int64_t pow(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  uint64_t result = 1, square = uint64_t(base);
  for (; exponent != 0; exponent >>= 1, square *= square)
    if (exponent & 1) result *= square;
  return int64_t(result);
}

// The functions of math.h for double: libm's, element by element.
inline double exp(double x) { return std::exp(x); }
inline double expm1(double x) { return std::expm1(x); }
inline double log(double x) { return std::log(x); }
inline double log1p(double x) { return std::log1p(x); }
inline double log2(double x) { return std::log2(x); }
inline double sin(double x) { return std::sin(x); }
inline double cos(double x) { return std::cos(x); }
inline double tanh(double x) { return std::tanh(x); }
inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double erf(double x) { return std::erf(x); }
inline double atan2(double y, double x) { return std::atan2(y, x); }
inline double pow(double x, double y) { return std::pow(x, y); }
inline double fmod(double x, double y) { return std::fmod(x, y); }
inline double sqrt(double x) { return __builtin_sqrt(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline double abs(double x) { return __builtin_fabs(x); }
inline double floor(double x) { return __builtin_floor(x); }
inline double ceil(double x) { return __builtin_ceil(x); }
inline double trunc(double x) { return __builtin_trunc(x); }
inline double round(double x) { return __builtin_nearbyint(x); }

// A rational approximation (M. Giles) and two steps of Newton's method on erf.
inline double erfinv(double y) {
  if (!(y > -1.0 && y < 1.0)) return y == 1.0 ? INFINITY : y == -1.0 ? -INFINITY : NAN;
  const double w = -std::log((1.0 - y) * (1.0 + y));
  const double t = w < 5.0 ? w - 2.5 : std::sqrt(w) - 3.0;
  const double near[] = {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                         -0.00125372503, -0.00417768164, 0.246640727,    1.50140941};
  const double far[] = {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                        -0.0076224613,   0.00943887047,  1.00167406,    2.83297682};
  double p = 0.0;
  for (int i = 0; i < 9; ++i) p = p * t + (w < 5.0 ? near[i] : far[i]);
  double x = p * y;
  for (int i = 0; i < 2; ++i) x -= (std::erf(x) - y) / (1.1283791670955126 * std::exp(-x * x));
  return x;
}
inline float erfinv(float y) { return float(erfinv(double(y))); }

// The first index that data picked outside its dimension; Fault::code is 1 + the dimension.
__attribute__((noinline, cold)) inline void index_fault(int64_t index, uint32_t operand, uint32_t dimension,
                                                        Scratch& scratch) {
  if (scratch.fault.code == 0) scratch.fault = {1 + dimension, operand, index};
}

// An index picked by data, for a load: outside [0, size) it is noted as a fault and clamped.
inline int64_t checked(int64_t index, int64_t size, uint32_t operand, uint32_t dimension, Scratch& scratch) {
  if (__builtin_expect(uint64_t(index) < uint64_t(size), 1)) return index;
  index_fault(index, operand, dimension, scratch);
  return index < 0 || size <= 0 ? 0 : size - 1;
}

// An index picked by data, for a store: negative means that nothing is stored, and so does one too large, with a fault.
inline bool storable(int64_t index, int64_t size, uint32_t operand, uint32_t dimension, Scratch& scratch) {
  if (index >= size) index_fault(index, operand, dimension, scratch);
  return index >= 0 && index < size;
}

}  // namespace onelaunch
