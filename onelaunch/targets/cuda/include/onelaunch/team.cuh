// Threads that compute together: a warp, or all kThreads of a block. The producer and the poller take no part.
#pragma once

#include "barrier.cuh"

namespace onelaunch {

// Opaque: what all kernels of a program compute from these would be computed before the loop over tasks, and held.
__device__ __forceinline__ int thread_of_block() { return int((threadIdx.x + opaque_zero()) % 1024); }
__device__ __forceinline__ int lane_of_warp() { return int((threadIdx.x + opaque_zero()) % kLanes); }
__device__ __forceinline__ int warp_of_block() { return int((threadIdx.x + opaque_zero()) % 1024 / kLanes); }

// Zeros, by all computing threads; a barrier must follow.
template <class T>
__device__ __forceinline__ void clear(T* memory, int count) {
  for (int i = thread_of_block(); i < count; i += kThreads) memory[i] = T{};
}

// Shared memory of reductions over the block: one value a warp.
struct Exchange {
  uint64_t values[kWarps];
};

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Product {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a * b;
  }
};
struct Either {
  __device__ __forceinline__ bool operator()(bool a, bool b) const { return a | b; }
};
struct Both {
  __device__ __forceinline__ bool operator()(bool a, bool b) const { return a & b; }
};
struct Largest {  // NaN wins, as in maximum()
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return (a > b) | (a != a) ? a : b;
  }
};
struct Smallest {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return (a < b) | (a != a) ? a : b;
  }
};

template <class T>
__device__ __forceinline__ T exchange(T value, int distance) {
  return __shfl_xor_sync(~0u, value, distance);
}
template <>
__device__ __forceinline__ bool exchange<bool>(bool value, int distance) {
  return __shfl_xor_sync(~0u, int(value), distance);
}

// The lanes' values combined, always in the same order; every lane gets the result.
template <class Operation, class T>
__device__ __forceinline__ T reduce_warp(T value) {
#pragma unroll
  for (int distance = kLanes / 2; distance != 0; distance /= 2) {
    const T other = exchange(value, distance);
    const bool upper = threadIdx.x & distance;  // the same operands in the same order on both sides
    value = upper ? Operation()(other, value) : Operation()(value, other);
  }
  return value;
}

// The threads' values combined, always in the same order; every thread of the block gets the result, and all call it.
template <class Operation, class T>
__device__ __forceinline__ T reduce_block(T value, Exchange& exchange) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "one word a warp");
  value = reduce_warp<Operation>(value);
  if (lane_of_warp() == 0) *reinterpret_cast<T*>(&exchange.values[warp_of_block()]) = value;
  sync_block();
  T result = *reinterpret_cast<const T*>(&exchange.values[0]);
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp)
    result = Operation()(result, *reinterpret_cast<const T*>(&exchange.values[warp]));
  sync_block();
  return result;
}

}  // namespace onelaunch
