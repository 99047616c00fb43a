// Scalar operations of generated code, with the semantics of expressions (docs/numerics.md): Python's integer division,
// minimum and maximum that propagate NaN, indices picked by data that are checked before they are used. Functions of
// floats are CUDA's own, at full accuracy.
#pragma once

#include "flag.cuh"
#include "task.cuh"

namespace onelaunch {

template <class T>
struct float_limits;
template <>
struct float_limits<float> {
  static __device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
  static __device__ __forceinline__ float quiet_NaN() { return __int_as_float(0x7fc00000); }
};
template <>
struct float_limits<double> {
  static __device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }
  static __device__ __forceinline__ double quiet_NaN() { return __longlong_as_double(0x7ff8000000000000ll); }
};

// Neutral elements of maximum and minimum.
template <class T>
__device__ __forceinline__ T lowest() {
  return -float_limits<T>::infinity();
}
template <class T>
__device__ __forceinline__ T highest() {
  return float_limits<T>::infinity();
}
template <>
__device__ __forceinline__ int64_t lowest<int64_t>() {
  return INT64_MIN;
}
template <>
__device__ __forceinline__ int64_t highest<int64_t>() {
  return INT64_C(9223372036854775807);
}
template <>
__device__ __forceinline__ bool lowest<bool>() {
  return false;
}
template <>
__device__ __forceinline__ bool highest<bool>() {
  return true;
}

#define ONELAUNCH_SCALAR __device__ __forceinline__

ONELAUNCH_SCALAR int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
ONELAUNCH_SCALAR int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
ONELAUNCH_SCALAR float minimum(float a, float b) { return Smallest()(a, b); }
ONELAUNCH_SCALAR float maximum(float a, float b) { return Largest()(a, b); }
ONELAUNCH_SCALAR double minimum(double a, double b) { return Smallest()(a, b); }
ONELAUNCH_SCALAR double maximum(double a, double b) { return Largest()(a, b); }

// Division by zero gives zero, and the most negative number divided by -1 wraps.
ONELAUNCH_SCALAR int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return int64_t(-uint64_t(a));
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}
ONELAUNCH_SCALAR int64_t floor_mod(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
ONELAUNCH_SCALAR int64_t fmod(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }

#define ONELAUNCH_FUNCTION(name, f32, f64)                  \
  ONELAUNCH_SCALAR float name(float x) { return ::f32(x); } \
  ONELAUNCH_SCALAR double name(double x) { return ::f64(x); }
ONELAUNCH_FUNCTION(exp, expf, exp)
ONELAUNCH_FUNCTION(expm1, expm1f, expm1)
ONELAUNCH_FUNCTION(log, logf, log)
ONELAUNCH_FUNCTION(log1p, log1pf, log1p)
ONELAUNCH_FUNCTION(log2, log2f, log2)
ONELAUNCH_FUNCTION(sin, sinf, sin)
ONELAUNCH_FUNCTION(cos, cosf, cos)
ONELAUNCH_FUNCTION(tanh, tanhf, tanh)
ONELAUNCH_FUNCTION(erf, erff, erf)
ONELAUNCH_FUNCTION(erfinv, erfinvf, erfinv)
ONELAUNCH_FUNCTION(sqrt, sqrtf, sqrt)
ONELAUNCH_FUNCTION(rsqrt, rsqrtf, rsqrt)
ONELAUNCH_FUNCTION(abs, fabsf, fabs)
ONELAUNCH_FUNCTION(floor, floorf, floor)
ONELAUNCH_FUNCTION(ceil, ceilf, ceil)
ONELAUNCH_FUNCTION(trunc, truncf, trunc)
ONELAUNCH_FUNCTION(round, rintf, rint)
#undef ONELAUNCH_FUNCTION
ONELAUNCH_SCALAR float atan2(float y, float x) { return ::atan2f(y, x); }
ONELAUNCH_SCALAR double atan2(double y, double x) { return ::atan2(y, x); }
ONELAUNCH_SCALAR float pow(float x, float y) { return ::powf(x, y); }
ONELAUNCH_SCALAR double pow(double x, double y) { return ::pow(x, y); }
ONELAUNCH_SCALAR float fmod(float x, float y) { return ::fmodf(x, y); }
ONELAUNCH_SCALAR double fmod(double x, double y) { return ::fmod(x, y); }
ONELAUNCH_SCALAR float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
ONELAUNCH_SCALAR double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
ONELAUNCH_SCALAR float copy_sign(float x, float y) { return ::copysignf(x, y); }
ONELAUNCH_SCALAR double copy_sign(double x, double y) { return ::copysign(x, y); }

template <class T>
ONELAUNCH_SCALAR T float_mod(T a, T b) {
  const T rest = fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
template <class T>
ONELAUNCH_SCALAR T float_div(T a, T b) {  // as torch: from the exact remainder, so that it agrees with floor_mod
  if (b == 0) return a / b;
  const T rest = fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) quotient -= 1;
  if (quotient == 0) return copy_sign(T(0), a / b);
  const T floored = floor(quotient);
  return quotient - floored > T(0.5) ? floored + 1 : floored;
}
ONELAUNCH_SCALAR float floor_div(float a, float b) { return float_div(a, b); }
ONELAUNCH_SCALAR double floor_div(double a, double b) { return float_div(a, b); }
ONELAUNCH_SCALAR float floor_mod(float a, float b) { return float_mod(a, b); }
ONELAUNCH_SCALAR double floor_mod(double a, double b) { return float_mod(a, b); }

template <class T>
ONELAUNCH_SCALAR T sign(T x) {
  return T(x > 0) - T(x < 0);
}
template <class T>
ONELAUNCH_SCALAR bool is_nan(T x) {
  return x != x;
}
ONELAUNCH_SCALAR int64_t abs(int64_t x) { return x < 0 ? -x : x; }
ONELAUNCH_SCALAR int64_t pow(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  uint64_t result = 1, square = uint64_t(base);
  for (; exponent != 0; exponent >>= 1, square *= square)
    if (exponent & 1) result *= square;
  return int64_t(result);
}

// What one block computes with besides its task: its own memory, and where it notes an index that does not exist.
struct Scratch {
  char* shared;    // Shape::kShared bytes, kept from task to task by nobody
  char* global;    // Shape::kScratch bytes, the same
  Exchange* exchange;
  Fault* fault;            // in shared memory, as are the others
  uint32_t* faulty;        // position of the task that found it
  Barrier* approved;       // the current task's events have been reached, or it has been given up
  uint32_t approval;       // the parity to wait for
  int64_t* began;          // where to note when the task had all it waits for, or null
  volatile uint32_t* computed;  // where to note that it has
  Patience patience;       // with the position of the task that runs, in the worker's queue

  // The task's events have been reached: the same for all threads. False: they will not be.
  __device__ __forceinline__ bool events_reached() const {
    while (!try_wait(*approved, approval))
      if (patience.given_up()) break;
    return !patience.given_up();
  }

  // All that the task waits for is there.
  __device__ __forceinline__ void begin() const {
    if (thread_of_block() != 0) return;
    *computed = patience.task;
    if (began != nullptr) *began = now();
  }
};

// The first index that data picked outside its dimension; Fault::code is 1 + the dimension. By value: a Scratch whose
// address is taken would have to lie in memory.
static __device__ __noinline__ void index_fault(int64_t index, int64_t size, uint32_t operand, uint32_t dimension,
                                                Fault* fault, uint32_t* faulty, uint32_t task) {
  if (atomicCAS(&fault->code, 0u, 1 + dimension) != 0) return;
  *faulty = task;
  fault->operand = operand;
  fault->value = index;
  fault->size = size;
}

// An index picked by data, for a load: outside [0, size) it is noted as a fault and clamped.
ONELAUNCH_SCALAR int64_t checked(int64_t index, int64_t size, uint32_t operand, uint32_t dimension,
                                 const Scratch& scratch) {
  if (uint64_t(index) < uint64_t(size)) return index;
  index_fault(index, size, operand, dimension, scratch.fault, scratch.faulty, scratch.patience.task);
  return index < 0 || size <= 0 ? 0 : size - 1;
}

// An index picked by data, for a store: negative means that nothing is stored, and so does one too large, with a fault.
ONELAUNCH_SCALAR bool storable(int64_t index, int64_t size, uint32_t operand, uint32_t dimension,
                               const Scratch& scratch) {
  if (index >= size) index_fault(index, size, operand, dimension, scratch.fault, scratch.faulty, scratch.patience.task);
  return index >= 0 && index < size;
}

// Steps of a loop, none where it ends before it begins (a tile beyond the run-time extent).
ONELAUNCH_SCALAR uint32_t steps(int64_t low, int64_t high) { return high > low ? uint32_t(high - low) : 0; }

// An operand's memory, which is global.
template <class T, class Launch, class Task>
ONELAUNCH_SCALAR T* operand(const Launch& launch, const Task& task, int number) {
  return Global::place(static_cast<T*>(launch.buffers[task.operands[number]]));
}

// The same of values with flags.
template <class Launch, class Task>
ONELAUNCH_SCALAR Awaited awaited(const Launch& launch, const Task& task, int number, const Scratch& scratch) {
  return {operand<const float>(launch, task, number), scratch.patience};
}
template <class Launch, class Task>
ONELAUNCH_SCALAR Announced announced(const Launch& launch, const Task& task, int number, const Scratch& scratch) {
  return {operand<float>(launch, task, number), scratch.patience.flag};
}

#undef ONELAUNCH_SCALAR

}  // namespace onelaunch
