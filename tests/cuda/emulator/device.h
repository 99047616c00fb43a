// CUDA's language on a CPU, as far as the headers of the CUDA target use it: every thread is a fiber, one of which runs at
// a time; wherever a thread may wait, a seeded scheduler picks who goes on. Included before everything else.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#define __device__
#define __global__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
inline size_t __cvta_generic_to_shared(const void* pointer) { return size_t(pointer); }
inline size_t __cvta_generic_to_global(const void* pointer) { return size_t(pointer); }
inline void* __cvta_shared_to_generic(size_t address) { return reinterpret_cast<void*>(address); }
inline void* __cvta_global_to_generic(size_t address) { return reinterpret_cast<void*>(address); }

namespace emulator {

struct Index {
  unsigned x;
};

// Threads that meet: a warp, the computing threads, a block.
struct Group {
  int size, come = 0;
  uint64_t generation = 0;
  unsigned char values[2][32][24];
};

struct Copy {
  void* to;
  const void* from;
  uint32_t bytes;
  void* barrier;
};

// One launch; emulate.py has the same layout.
struct Grid {
  const void* launch;
  unsigned entry, blocks, shared;
  unsigned overlaps;  // it may begin when all blocks of the one before have said so
  unsigned saying, running;  // blocks that have said so, fibers that have not ended
};

struct Block {
  Grid* grid;
  bool said = false;
  std::vector<double> speed;  // of each warp
  Index index;
  std::unique_ptr<char[]> memory;
  Group all, computing;
  std::vector<Group> warps;
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Block* block;
  Index thread;
  const uint64_t* awaited = nullptr;  // blocked while *awaited == seen
  uint64_t seen = 0;
  bool done = false;
};

struct World {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Copy> copies;
  Grid* grids = nullptr;
  Fiber* current = nullptr;
  ucontext_t scheduler;
  std::mt19937_64 random;
};
extern World world;

void yield();
void meet(Group& group);
inline Group& warp() { return world.current->block->warps[world.current->thread.x / 32]; }

// What every lane of the warp gives, seen by all of them.
template <class T>
void share(T value, T (&all)[32]) {
  Group& group = warp();
  auto* const slots = group.values[group.generation % 2];
  static_assert(sizeof(T) <= 24);
  std::memcpy(slots[world.current->thread.x % 32], &value, sizeof(T));
  meet(group);
  for (int i = 0; i < 32; ++i) std::memcpy(&all[i], slots[i], sizeof(T));
}

}  // namespace emulator

#define threadIdx (emulator::world.current->thread)
#define blockIdx (emulator::world.current->block->index)
#define gridDim (emulator::Index{emulator::world.current->block->grid->blocks})

inline void __syncwarp() { emulator::meet(emulator::warp()); }
inline void __syncthreads() { emulator::meet(emulator::world.current->block->all); }
template <class T>
inline T __shfl_xor_sync(unsigned, T value, int distance) {
  T all[32];
  emulator::share(value, all);
  return all[emulator::world.current->thread.x % 32 ^ distance];
}
template <class T>
inline T __shfl_sync(unsigned, T value, int lane) {
  T all[32];
  emulator::share(value, all);
  return all[lane];
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline bool __any_sync(unsigned, bool value) {
  bool all[32];
  emulator::share(value, all);
  for (bool one : all) value |= one;
  return value;
}
inline bool __all_sync(unsigned mask, bool value) { return !__any_sync(mask, !value); }
template <class T>
inline T atomicCAS(T* to, T expected, T value) {
  const T old = *to;
  if (old == expected) *to = value;
  return old;
}
inline unsigned atomicAdd(unsigned* to, unsigned value) { return (*to += value) - value; }
inline unsigned atomicMin(unsigned* to, unsigned value) { return *to = *to < value ? *to : value; }

template <class To, class From>
inline To reinterpret_bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}
inline float __uint_as_float(unsigned bits) { return reinterpret_bits<float>(bits); }
inline float __int_as_float(int bits) { return reinterpret_bits<float>(bits); }
inline double __longlong_as_double(long long bits) { return reinterpret_bits<double>(bits); }
inline unsigned __float_as_uint(float value) { return reinterpret_bits<unsigned>(value); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float erfinvf(float) { std::abort(); }
inline double erfinv(double) { std::abort(); }

#undef INT64_C
#undef INT64_MIN
