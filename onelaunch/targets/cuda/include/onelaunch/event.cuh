// Events: counters in device memory that tasks signal and wait for.
//
// A signal is a release: whatever the block has written before (and made known to the signalling thread by a barrier) is
// visible to a block whose poller has acquired the counter. Both are cumulative, so one thread may do it for all.
#pragma once

#include "types.cuh"

namespace onelaunch {

__device__ __forceinline__ uint32_t load_acquire(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// Not ordered with anything: for flags that end a wait, and for counters that a fence has been issued for.
__device__ __forceinline__ uint32_t load_relaxed(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// Four words, each of them whole, in no order.
__device__ __forceinline__ Quad load_relaxed(const Quad* from) {
  Quad q;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
               : "l"(from)
               : "memory");
  return q;
}

__device__ __forceinline__ void store_relaxed(uint32_t* to, uint32_t value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

__device__ __forceinline__ void add_relaxed(uint32_t* to) {
  asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
}

__device__ __forceinline__ void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
__device__ __forceinline__ void fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// Modulo 2^32: a counter is never more than 2^31 ahead of what is awaited.
__device__ __forceinline__ bool reached(uint32_t count, uint32_t target) { return int32_t(count - target) >= 0; }

// Nanoseconds; ticks every 32 on an H200.
__device__ __forceinline__ int64_t now() {
  int64_t time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}

}  // namespace onelaunch
