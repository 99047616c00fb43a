// Sizes that all roles share, vector loads, and what is known of pointers. No CUDA header is included anywhere: NVRTC then
// needs no toolkit on the user's machine.
#pragma once

#include "storage.cuh"

namespace onelaunch {

inline constexpr int kLanes = 32;          // threads of a warp
inline constexpr int kWarps = 8;           // warps that compute
inline constexpr int kThreads = kWarps * kLanes;
inline constexpr int kVector = 8;          // elements of one vector load

// Sixteen bytes, the widest access there is.
struct alignas(16) Quad {
  uint32_t x, y, z, w;
};

// kVector stored elements as they lie in memory, to be decoded when they are used: a load should not wait.
template <class T>
struct Raw {
  static constexpr int kWords = kVector * int(sizeof(T)) / 4;
  static constexpr int kPerWord = 4 / int(sizeof(T));
  static_assert(kWords % 4 == 0, "a vector is a whole number of quads");
  uint32_t words[kWords];

  // `from` is aligned to 16 bytes.
  __device__ __forceinline__ void load(const T* from) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const Quad quad = *reinterpret_cast<const Quad*>(reinterpret_cast<const uint32_t*>(from) + i);
      words[i] = quad.x, words[i + 1] = quad.y, words[i + 2] = quad.z, words[i + 3] = quad.w;
    }
  }

  // The first `count` elements one by one; the others become zero.
  __device__ __forceinline__ void load_some(const T* from, int count) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const uint32_t bits = i < count ? bits_of(from[i]) : 0;
      if (i % kPerWord == 0) words[i / kPerWord] = bits;
      else words[i / kPerWord] |= bits << 16;
    }
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = 0;
  }

  __device__ __forceinline__ void load_if(const T* from, bool condition) {
    clear();
    if (condition) load(from);
  }

  __device__ __forceinline__ void decode(float (&values)[kVector]) const {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if constexpr (sizeof(T) == 4) values[i] = __uint_as_float(words[i]);
      else values[i] = to_float(T{uint16_t(words[i / 2] >> i % 2 * 16)});
    }
  }

 private:
  static __device__ __forceinline__ uint32_t bits_of(float value) { return __float_as_uint(value); }
  static __device__ __forceinline__ uint32_t bits_of(bf16 value) { return value.bits; }
  static __device__ __forceinline__ uint32_t bits_of(fp16 value) { return value.bits; }
};

// Where a pointer points to, said by a round trip that costs nothing: the compiler can then use the fitting instructions.
// (Of two __builtin_assume(__isShared()) in one function, NVRTC 13.0 made code that cannot be reached.)
struct Shared {
  template <class T>
  static __device__ __forceinline__ T* place(T* pointer) {
    return static_cast<T*>(__cvta_shared_to_generic(__cvta_generic_to_shared(pointer)));
  }
};
struct Global {
  template <class T>
  static __device__ __forceinline__ T* place(T* pointer) {
    return static_cast<T*>(__cvta_global_to_generic(__cvta_generic_to_global(pointer)));
  }
};

// Zero, which the compiler does not know: what is computed from it is not computed before the loop around it.
__device__ __forceinline__ uint32_t opaque_zero() {
  uint32_t zero = 0;
  asm volatile("" : "+r"(zero));
  return zero;
}

__device__ __forceinline__ bool is_aligned(const void* address, int64_t step_bytes) {
  return ((uint64_t(address) | uint64_t(step_bytes)) & 15) == 0;
}

}  // namespace onelaunch
