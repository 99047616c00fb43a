// Small operands of a task, copied to shared memory by all computing threads before it computes: one trip to memory for all
// of them together, instead of one for each use. What nobody writes in this launch is asked for first and comes while the
// others are waited for.
#pragma once

#include "flag.cuh"
#include "halves.cuh"

namespace onelaunch {

namespace detail {

inline constexpr uint32_t kQuad = 4;          // words of a vector
inline constexpr uint32_t kNear = 2048;       // words that all threads may look for at once without disturbing others
inline constexpr uint32_t kTogether = 8;      // vectors that a thread asks for before it looks at the first, at most

__device__ __forceinline__ bool is_written(const Quad& q, uint32_t flag) {
  return (((q.x ^ flag) | (q.y ^ flag) | (q.z ^ flag) | (q.w ^ flag)) & 1) == 0;
}

// Where values go: as they are, or as inputs of a product (linear.cuh).
__device__ __forceinline__ void put(float* to, uint32_t vector, const Quad& q) { reinterpret_cast<Quad*>(to)[vector] = q; }

struct alignas(8) Packed {
  uint16_t values[4];
};
template <class W>
__device__ __forceinline__ void put(W* to, uint32_t vector, const Quad& q) {
  const uint32_t words[4] = {q.x, q.y, q.z, q.w};
  Packed packed;
#pragma unroll
  for (int n = 0; n < 4; ++n) packed.values[n] = from_float<W>(__uint_as_float(words[n])).bits;
  reinterpret_cast<Packed*>(to)[vector] = packed;
}
template <class W>
__device__ __forceinline__ void put(const Halves<W>& to, uint32_t vector, const Quad& q) {
  const uint32_t words[4] = {q.x, q.y, q.z, q.w};
  Packed first, second;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const float value = __uint_as_float(words[n]);
    const W half = from_float<W>(value);
    first.values[n] = half.bits;
    second.values[n] = from_float<W>(value - to_float(half)).bits;
  }
  reinterpret_cast<Packed*>(to.at)[vector] = first;
  reinterpret_cast<Packed*>(to.at + to.distance)[vector] = second;
}

// Looks at vectors 0 to `vectors` - 1, from[place(i)], until they are written, and puts them where they go.
template <uint32_t kMost, class Place, class Put>
__device__ __forceinline__ void collect(const Awaited& from, uint32_t vectors, const Place& place, const Put& put) {
  constexpr uint32_t kEach = (kMost + kThreads - 1) / kThreads;  // vectors of a thread
  constexpr uint32_t kAtOnce = kEach < 1 ? 1 : kEach < kTogether ? kEach : kTogether;
  const uint32_t flag = from.patience.flag;
  const Quad* const quads = reinterpret_cast<const Quad*>(from.at);
  if (vectors * kQuad > kNear) {  // one look a warp until its last vector is there
    const uint32_t last = vectors - 1 - (vectors - 1 - thread_of_block() / kLanes * kLanes) % kThreads;
    if (lane_of_warp() == 0)
      while (!is_written(load_relaxed(quads + place(last)), flag) && !from.patience.given_up()) {
      }
    __syncwarp();
  }
#pragma unroll 1
  for (uint32_t first = thread_of_block(); first < vectors; first += kThreads * kAtOnce) {
    Quad found[kAtOnce];
    bool over;
    do {
      over = true;
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i)
        if (first + i * kThreads < vectors) found[i] = load_relaxed(quads + place(first + i * kThreads));
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i)
        if (first + i * kThreads < vectors) over &= is_written(found[i], flag);
    } while (!over && !from.patience.given_up());
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i)
      if (first + i * kThreads < vectors)
        put(first + i * kThreads, Quad{found[i].x & ~1u, found[i].y & ~1u, found[i].z & ~1u, found[i].w & ~1u});
  }
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
template <uint32_t kMost>
__device__ __forceinline__ void stage(float* to, const Awaited& from, uint32_t count, bool aligned) {
  const uint32_t vectors = aligned ? count / detail::kQuad : 0;
  detail::collect<kMost / detail::kQuad>(
      from, vectors, [](uint32_t i) { return i; }, [&](uint32_t i, const Quad& q) { detail::put(to, i, q); });
#pragma unroll 1
  for (uint32_t i = vectors * detail::kQuad + thread_of_block(); i < count; i += kThreads) to[i] = from[i];
}

// The same for the inputs of a product: kTokens rows of kSize values, kPitch apart, to rows `pitch` apart. All of these
// are multiples of a vector.
template <int kTokens, int kSize, int kPitch, class To>
__device__ __forceinline__ void stage_rows(const To& to, int pitch, const Awaited& from) {
  constexpr uint32_t kRow = kSize / detail::kQuad;
  detail::collect<kTokens * kRow>(
      from, kTokens * kRow, [](uint32_t i) { return i / kRow * (kPitch / detail::kQuad) + i % kRow; },
      [&](uint32_t i, const Quad& q) { detail::put(to + int(i / kRow) * pitch, i % kRow, q); });
}

// After all calls of the above: everything is there, for all threads.
__device__ __forceinline__ void staged() {
  wait_for_copies();
  sync_block();
}

}  // namespace onelaunch
