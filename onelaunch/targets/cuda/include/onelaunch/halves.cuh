// Inputs of products with matrices of 16 bits that keep more than 16 bits.
#pragma once

#include "storage.cuh"

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

}  // namespace onelaunch
