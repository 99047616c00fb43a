// The newest position of an attention, whose key and value this launch computes: they do not come from the cache, which is
// updated later, but from where they were computed.
//
// One warp takes it when it has taken all its other positions, and only this warp waits for it.
#pragma once

#include "stage.cuh"

namespace onelaunch {

namespace detail {

// `kCount` numbers from memory that this launch may be writing to `to`, by one warp.
template <int kCount, class T>
__device__ __forceinline__ void bring_row(T* to, const Awaited& from) {
  constexpr int kQuads = kCount / int(kQuad), kEach = (kQuads + kLanes - 1) / kLanes;
  const bool aligned = is_aligned(from.at, 0);
  const int vectors = aligned ? kQuads : 0;
  const Quad* const quads = reinterpret_cast<const Quad*>(from.at);
  Quad found[kEach == 0 ? 1 : kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (lane_of_warp() + i * kLanes < vectors) found[i] = load_relaxed(quads + lane_of_warp() + i * kLanes);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int n = lane_of_warp() + i * kLanes;
    if (n >= vectors) continue;
    while (!is_written(found[i], from.patience.flag) && !from.patience.given_up()) found[i] = load_relaxed(quads + n);
    const uint32_t words[4] = {found[i].x, found[i].y, found[i].z, found[i].w};
#pragma unroll
    for (int k = 0; k < 4; ++k) to[n * 4 + k] = from_float<T>(__uint_as_float(words[k] & ~1u));
  }
  for (int n = vectors * int(kQuad) + lane_of_warp(); n < kCount; n += kLanes) to[n] = from_float<T>(from[n]);
}

// The same of numbers that are there.
template <int kCount, class T, class From>
__device__ __forceinline__ void bring_row(T* to, const From* from) {
  for (int n = lane_of_warp(); n < kCount; n += kLanes) to[n] = from_float<T>(to_float(from[n]));
}

}  // namespace detail

// `key` and `value`: shared memory for the rows at `key_from` and `value_from`, as the cache would hold them.
template <class KeyFrom, class ValueFrom, class K, class V>
struct Newest {
  static constexpr bool kThere = true;
  int64_t at;
  KeyFrom key_from;
  ValueFrom value_from;
  K* key;
  V* value;

  // Waits for the rows; by one warp.
  template <int kKey, int kValue>
  __device__ __forceinline__ void bring() const {
    detail::bring_row<kKey>(key, key_from);
    detail::bring_row<kValue>(value, value_from);
    __syncwarp();
  }
};
template <class KeyFrom, class ValueFrom, class K, class V>
Newest(int64_t, KeyFrom, ValueFrom, K*, V*) -> Newest<KeyFrom, ValueFrom, K, V>;

struct NoNewest {
  static constexpr bool kThere = false;
};

}  // namespace onelaunch
