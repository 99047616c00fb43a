// Shared memory, the barriers in it (mbarrier), and the copy engine that completes them.
//
// A barrier is in phase 0, 1, 2, ...; a phase completes when all its arrivals and announced bytes have come. Waiting for
// a parity ends when the barrier has left the phase of that parity. Arrivals release, waits acquire, within the block.
#pragma once

#include "types.cuh"

namespace onelaunch {

using Barrier = uint64_t;

// All computing threads have come here; what they wrote is visible to all of them.
__device__ __forceinline__ void sync_block() {
  constexpr int kComputing = 1;  // the named barrier; 0 is __syncthreads
  asm volatile("bar.sync %0, %1;" ::"n"(kComputing), "n"(kThreads) : "memory");
}

// From now on a thread has so many registers: four neighbouring warps give some away, or take what others have given.
// On Hopper alone: for sm_100a, ptxas (of CUDA 13.5) finds no allocation at any of the counts that fit a block.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
#if __CUDA_ARCH__ < 1000 && !defined(ONELAUNCH_EVEN_REGISTERS)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
#if __CUDA_ARCH__ < 1000 && !defined(ONELAUNCH_EVEN_REGISTERS)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// The block's dynamic shared memory.
__device__ __forceinline__ char* shared_memory() {
  extern __shared__ __align__(128) char memory[];
  return memory;
}

__device__ __forceinline__ uint32_t shared_address(const void* generic) {
  return uint32_t(__cvta_generic_to_shared(generic));
}

__device__ __forceinline__ void init(Barrier& barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}

// After all barriers of a block have been initialised, by the thread that did it.
__device__ __forceinline__ void fence_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// Arrives, and announces bytes that copies will bring.
__device__ __forceinline__ void arrive_expecting(Barrier& barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}

// One probe; may suspend the thread for a while.
__device__ __forceinline__ bool try_wait(Barrier& barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(over)
      : "r"(shared_address(&barrier)), "r"(parity)
      : "memory");
  return over;
}

// One probe that never suspends.
__device__ __forceinline__ bool test_wait(Barrier& barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{ .reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(over)
      : "r"(shared_address(&barrier)), "r"(parity)
      : "memory");
  return over;
}

// For what certainly comes: copies that were issued, stages of a task that was approved.
__device__ __forceinline__ void wait(Barrier& barrier, uint32_t parity) {
  while (!try_wait(barrier, parity)) {
  }
}

// True for one lane of the warp, all of which call it. What it guards, the compiler knows to be one thread's: copies can then
// follow each other at once, where a lane's number would make a loop over the lanes of each.
__device__ __forceinline__ bool elect_lane() {
  uint32_t elected;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(elected));
  return elected;
}

// Copies `bytes` (a multiple of 16, both addresses aligned to 16) from global to shared memory.
__device__ __forceinline__ void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&barrier))
      : "memory");
}

// Sixteen bytes of global memory that this launch does not write, copied by the calling thread; see wait_for_copies.
__device__ __forceinline__ void copy_async(Quad* to, const Quad* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

// The calling thread's own have arrived.
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A hint: the 128 bytes of global memory around this address will be read soon.
__device__ __forceinline__ void prefetch_line(const void* line) { asm volatile("prefetch.global.L2 [%0];" ::"l"(line)); }

// Between ordinary stores to shared memory and copies to the same place.
__device__ __forceinline__ void fence_proxy_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Between acquiring what other blocks stored and copies from there.
__device__ __forceinline__ void fence_proxy_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

}  // namespace onelaunch
