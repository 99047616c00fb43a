// How inputs of products with matrices of 16 bits lie in shared memory, where not as an array.
#pragma once

#include "types.cuh"

namespace onelaunch {

// An input that a 16-bit type cannot hold, as the sum of two that it can: 16 bits of mantissa for bf16. The second half
// lies `distance` elements behind the first.
template <class W>
struct Halves {
  W* at;
  int64_t distance;

  struct Place {
    W* at;
    int64_t distance;
    __device__ __forceinline__ void operator=(float value) const {
      const W half = from_float<W>(value);
      at[0] = half;
      at[distance] = from_float<W>(value - to_float(half));
    }
  };
  __device__ __forceinline__ Place operator[](int64_t i) const { return {at + i, distance}; }
  __device__ __forceinline__ Halves operator+(int64_t i) const { return {at + i, distance}; }
};

inline constexpr int kHalfUnit = 4 * kVector, kUnit = 2 * kHalfUnit;  // elements of a row that a warp takes at once

// Inputs in the order in which tensor cores take them (linear.cuh): in each unit, two elements of its first half are
// followed by the two in the same place of its second half. Rows begin at multiples of a unit.
template <class W>
struct Ordered {
  W* at;
  int64_t start = 0;

  static __device__ __forceinline__ int64_t place(int64_t i) {
    return (i & -int64_t(kUnit)) | (i & 1) | (i >> 5 & 1) << 1 | (i >> 1 & 15) << 2;
  }
  __device__ __forceinline__ W& operator[](int64_t i) const { return at[place(start + i)]; }
  __device__ __forceinline__ Ordered operator+(int64_t i) const { return {at, start + i}; }
};

}  // namespace onelaunch
