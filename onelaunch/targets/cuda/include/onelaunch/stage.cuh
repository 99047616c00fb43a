// Small operands of a task, copied to shared memory by all computing threads before it computes: one trip to memory for all
// of them together, instead of one for each use. What nobody writes in this launch is asked for first and comes while the
// others are waited for.
#pragma once

#include "flag.cuh"

namespace onelaunch {

namespace detail {

inline constexpr uint32_t kQuad = 4;          // words of a vector
inline constexpr uint32_t kNear = 2048;       // words that all threads may look for at once without disturbing others
inline constexpr uint32_t kTogether = 16;     // vectors that a thread asks for before it looks at the first, at most

__device__ __forceinline__ bool is_written(const Quad& q, uint32_t flag) {
  return (((q.x ^ flag) | (q.y ^ flag) | (q.z ^ flag) | (q.w ^ flag)) & 1) == 0;
}

// Where values go: as they are, or as the input of a product (linear.cuh: Halves).
__device__ __forceinline__ void put(float* to, uint32_t vector, const Quad& q) { reinterpret_cast<Quad*>(to)[vector] = q; }
template <class To>
__device__ __forceinline__ void put(const To& to, uint32_t vector, const Quad& q) {
  to[vector * kQuad] = __uint_as_float(q.x), to[vector * kQuad + 1] = __uint_as_float(q.y);
  to[vector * kQuad + 2] = __uint_as_float(q.z), to[vector * kQuad + 3] = __uint_as_float(q.w);
}

}  // namespace detail

// Constant for this launch: only asked for. Each thread waits for its own part in `staged`.
template <class T>
__device__ __forceinline__ void stage_constant(T* to, const T* from, uint32_t count) {
  const uint32_t vectors = is_aligned(from, 0) ? count * uint32_t(sizeof(T)) / 16 : 0;
#pragma unroll 1
  for (uint32_t i = thread_of_block(); i < vectors; i += kThreads)
    copy_async(reinterpret_cast<Quad*>(to) + i, reinterpret_cast<const Quad*>(from) + i);
#pragma unroll 1
  for (uint32_t i = vectors * 16 / uint32_t(sizeof(T)) + thread_of_block(); i < count; i += kThreads) to[i] = from[i];
}

// Written in this launch, before an event that has been waited for.
template <class To, class T>
__device__ __forceinline__ void stage(To to, const T* from, uint32_t count) {
#pragma unroll 4
  for (uint32_t i = thread_of_block(); i < count; i += kThreads) to[i] = from[i];
}

// Written in this launch, perhaps not yet: `count` of at most kMost values; `aligned` as vectors are.
template <uint32_t kMost, class To>
__device__ __forceinline__ void stage(To to, const Awaited& from, uint32_t count, bool aligned) {
  constexpr uint32_t kEach = (kMost / detail::kQuad + kThreads - 1) / kThreads;  // vectors of a thread
  constexpr uint32_t kTogether = kEach < 1 ? 1 : kEach < detail::kTogether ? kEach : detail::kTogether;
  const uint32_t flag = from.patience.flag, vectors = aligned ? count / detail::kQuad : 0;
  const Quad* const quads = reinterpret_cast<const Quad*>(from.at);
  if (vectors * detail::kQuad > detail::kNear) {  // one look a warp until its last vector is there
    const uint32_t last = vectors - 1 - (vectors - 1 - thread_of_block() / kLanes * kLanes) % kThreads;
    if (lane_of_warp() == 0)
      while (!detail::is_written(load_relaxed(quads + last), flag) && !from.patience.given_up()) {
      }
    __syncwarp();
  }
#pragma unroll 1
  for (uint32_t first = thread_of_block(); first < vectors; first += kThreads * kTogether) {
    Quad found[kTogether];
    bool over;
    do {
      over = true;
#pragma unroll
      for (uint32_t i = 0; i < kTogether; ++i)
        if (first + i * kThreads < vectors) found[i] = load_relaxed(quads + first + i * kThreads);
#pragma unroll
      for (uint32_t i = 0; i < kTogether; ++i)
        if (first + i * kThreads < vectors) over &= detail::is_written(found[i], flag);
    } while (!over && !from.patience.given_up());
#pragma unroll
    for (uint32_t i = 0; i < kTogether; ++i)
      if (first + i * kThreads < vectors)
        detail::put(to, first + i * kThreads, Quad{found[i].x & ~1u, found[i].y & ~1u, found[i].z & ~1u, found[i].w & ~1u});
  }
#pragma unroll 1
  for (uint32_t i = vectors * detail::kQuad + thread_of_block(); i < count; i += kThreads) to[i] = from[i];
}

// After all calls of the above: everything is there, for all threads.
__device__ __forceinline__ void staged() {
  wait_for_copies();
  sync_block();
}

}  // namespace onelaunch
