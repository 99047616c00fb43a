// Inputs of products that other tasks of this launch have stored in 16 bits: the copy engine brings them to shared memory,
// part by part along the contraction, while the computing warps multiply the part before.
//
// A second ring (ring.cuh says what a ring is), with a slot a part. Its producer waits for the task's events, which the
// one that streams weights must not do.
#pragma once

#include "ring.cuh"

namespace onelaunch {

// The producer's side: one warp, all lanes of which run it together.
template <int kSlots, int kBytes>
struct Fetcher {
  char* memory;
  RingBarriers<kSlots>* barriers;
  Barrier* approved;                  // [kRecords]: tasks whose events have been reached
  Barrier* done;                      // [kRecords]: tasks that have been computed
  const volatile uint32_t* abort_at;  // tasks of this worker from here on will not run
  uint32_t task = 0;                  // position in the queue
  uint32_t slot = 0, parity = 0;      // of the next part
  uint32_t asked = 0;                 // parts
  bool stopped = false;

  // Before the first part of a task: what other blocks stored before its events may be copied. False: the launch is ending.
  __device__ __forceinline__ bool begin() {
    while (!stopped && !try_wait(approved[task % kRecords], task / kRecords % 2)) stopped = *abort_at <= task;
    const uint32_t before = task - 1;  // this block's own stores: the order of its queue needs no event
    while (!stopped && task != 0 && !try_wait(done[before % kRecords], before / kRecords % 2)) stopped = *abort_at <= task;
    stopped = __any_sync(~0u, stopped || *abort_at <= task);
    fence_proxy_global();
    return !stopped;
  }

  // The next part: `length` elements of each of `count` rows that are `pitch` apart, to rows `to_pitch` apart. All of
  // these, and `from`, are multiples of 16 bytes.
  template <class W>
  __device__ __forceinline__ void rows(const W* from, int64_t pitch, int count, int length, int to_pitch) {
    stopped = __any_sync(~0u, stopped);
    while (!stopped && !__all_sync(~0u, try_wait(barriers->empty[slot], parity ^ 1)))
      stopped = __any_sync(~0u, *abort_at <= task);
    if (stopped) return;
    if (elect_lane()) {
      const uint32_t bytes = uint32_t(length) * uint32_t(sizeof(W));
      arrive_expecting(barriers->full[slot], bytes * count);
      W* const to = reinterpret_cast<W*>(memory + slot * kBytes);
      for (int row = 0; row < count; ++row)
        copy_bulk(to + row * to_pitch, from + row * pitch, bytes, barriers->full[slot]);
    }
    const bool last = slot + 1 == kSlots;
    slot = last ? 0 : slot + 1;
    parity ^= last;
    ++asked;
  }

  // Before the block ends: no copy may arrive in memory that is someone else's.
  __device__ __forceinline__ void drain() {
    for (uint32_t part = asked < kSlots ? 0 : asked - kSlots; part < asked; ++part)
      wait(barriers->full[part % kSlots], part / kSlots % 2);
  }
};

}  // namespace onelaunch
