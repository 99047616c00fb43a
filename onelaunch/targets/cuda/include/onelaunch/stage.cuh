// Small operands of a task, copied to shared memory by all computing threads before it computes: one trip to memory for all
// of them together, instead of one for each use. What nobody writes in this launch is asked for first and comes while the
// others are waited for.
#pragma once

#include "flag.cuh"
#include "inputs.cuh"

namespace onelaunch {

namespace detail {

inline constexpr uint32_t kQuad = 4;          // words of a vector
inline constexpr uint32_t kFew = 2;           // vectors that a thread may look at again and again
inline constexpr uint32_t kTogether = 16;     // vectors that a thread asks for before it looks at the first, at most

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
__device__ __forceinline__ void put(const Ordered<W>& to, uint32_t vector, const Quad& q) {
  const uint32_t place = uint32_t(Ordered<W>::place(to.start + vector * kQuad));
  *reinterpret_cast<uint32_t*>(to.at + place) = pack<W>(__uint_as_float(q.x), __uint_as_float(q.y));
  *reinterpret_cast<uint32_t*>(to.at + place + 4) = pack<W>(__uint_as_float(q.z), __uint_as_float(q.w));
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

// Looks at vectors 0 to `vectors` - 1, from[place(i)], until they are written, and puts them where they go. A thread that
// needs many looks at one until it is there, then at all others that it still needs, once: whoever writes them is not
// disturbed by many looks, and what has come early is not looked at again.
template <uint32_t kMost, class Place, class Put>
__device__ __forceinline__ void collect(const Awaited& from, uint32_t vectors, const Place& place, const Put& put) {
  constexpr uint32_t kEach = (kMost + kThreads - 1) / kThreads;  // vectors of a thread
  constexpr uint32_t kAtOnce = kEach < 1 ? 1 : kEach < kTogether ? kEach : kTogether;
  const uint32_t flag = from.patience.flag;
  const Quad* const quads = reinterpret_cast<const Quad*>(from.at);
#pragma unroll 1
  for (uint32_t first = thread_of_block(); first < vectors; first += kThreads * kAtOnce) {
    const uint32_t count = (vectors - first + kThreads - 1) / kThreads;
    uint32_t pending = count >= kAtOnce ? (1u << kAtOnce) - 1 : (1u << count) - 1;
    const auto keep = [&](uint32_t i, const Quad& q) {
      put(first + i * kThreads, Quad{q.x & ~1u, q.y & ~1u, q.z & ~1u, q.w & ~1u});
      pending &= ~(1u << i);
    };
    bool waits = first < kThreads;  // what comes behind the first ones is likely to be there
    for (; pending != 0; waits = true) {
      if (waits && kAtOnce > kFew && __popc(pending) > int(kFew)) {
        const uint32_t next = uint32_t(__ffs(int(pending))) - 1;
        Quad one = load_relaxed(quads + place(first + next * kThreads));
        while (!is_written(one, flag) && !from.patience.given_up())
          one = load_relaxed(quads + place(first + next * kThreads));
        keep(next, one);
      }
      Quad others[kAtOnce];
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i)
        if (pending >> i & 1) others[i] = load_relaxed(quads + place(first + i * kThreads));
      const bool over = from.patience.given_up();
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i)
        if ((pending >> i & 1) && (over || is_written(others[i], flag))) keep(i, others[i]);
    }
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
