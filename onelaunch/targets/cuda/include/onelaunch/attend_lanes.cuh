// Attention over keys and values of any float type, size and alignment, in fp32.
//
// A few lanes share a position, each with 8 elements of the head; together they are a stream, and the streams of the
// block take positions in turn, a few at once, each with a running softmax of its own. A warp's streams are merged in a
// fixed order.
#pragma once

#include "attend_parts.cuh"

namespace onelaunch {
namespace detail {

__device__ constexpr int power_of_two(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

// How a head is shared out: `kVectors` vectors a lane, `kShare` lanes a position.
template <int kKey, int kValue>
struct Heads {
  static constexpr int kMost = kKey > kValue ? kKey : kValue;
  static constexpr int kVectors = (kMost + kVector * kLanes - 1) / (kVector * kLanes);
  static constexpr int kShare = power_of_two((kMost + kVector * kVectors - 1) / (kVector * kVectors));
  static constexpr int kStreams = kLanes / kShare;           // of a warp
  static constexpr int kTogether = kVectors == 1 ? 2 : 1;    // positions of a stream that are in flight
  static constexpr int kQueries = kVectors < 4 ? 4 / kVectors : 1;  // whose parts fit a thread's registers
  static_assert(kShare <= kLanes, "a position fits a warp");
};

// A vector of a row with `size` elements; `whole`: rows are aligned.
template <class T>
__device__ __forceinline__ void load_part(Raw<T>& raw, const T* row, int at, int size, bool whole) {
  if (at + kVector <= size && whole) {
    raw.load(row + at);
  } else {
    raw.load_some(row + at, size - at);
  }
}

// One query's running softmax in one stream: `weight` is the sum of exp(score - peak), `out` that of weighted values.
template <int kVectors>
struct Running {
  float peak = -float_limits<float>::infinity(), weight = 0.0f, out[kVectors][kVector] = {};

  __device__ __forceinline__ void raise_to(float score) {
    const float factor = raise(peak, score);
    weight *= factor;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) out[v][i] *= factor;
  }

  // Adds a position's values, its score being no higher than the peak.
  template <class V>
  __device__ __forceinline__ void add(float score, const Raw<V> (&values)[kVectors]) {
    const float w = exponential(score - base_of(peak));
    weight += w;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      float value[kVector];
      values[v].decode(value);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        // A masked position's memory may hold anything: 0 * NaN must not get in.
        out[v][i] = fmaf(w, w == 0.0f ? 0.0f : value[i], out[v][i]);
      }
    }
  }

  // Merges with the stream `distance` lanes away; both sides compute the same.
  __device__ __forceinline__ void merge(int distance) {
    raise_to(exchange(peak, distance));  // both sides are now relative to the same peak
    weight += exchange(weight, distance);
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) out[v][i] += exchange(out[v][i], distance);
  }
};

// Queries [first, first + kGroup).
template <int kGroup, int kKey, int kValue, int Q, class Where, class Score>
__device__ __forceinline__ void attend_group(int first, const float* queries, const Where& cache, int64_t begin,
                                             int64_t end, const Score& score, const WarpParts<Q, kValue>& parts) {
  using K = typename Where::Key;
  using V = typename Where::Value;
  using Split = Heads<kKey, kValue>;
  constexpr int kVectors = Split::kVectors, kShare = Split::kShare, kTogether = Split::kTogether;
  constexpr int kOfBlock = kWarps * Split::kStreams;
  const int lane = lane_of_warp() % kShare, stream = lane_of_warp() / kShare;
  const bool whole = cache.is_aligned();
  float query[kGroup][kVectors][kVector];
#pragma unroll
  for (int q = 0; q < kGroup; ++q)
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const int d = (v * kShare + lane) * kVector + i;
        query[q][v][i] = d < kKey ? queries[(first + q) * kKey + d] : 0.0f;
      }
  Running<kVectors> running[kGroup];
  for (int64_t at = begin + warp_of_block() * Split::kStreams; at < end; at += kTogether * kOfBlock) {
    Raw<K> keys[kTogether][kVectors];
    Raw<V> values[kTogether][kVectors];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int64_t position = at + n * kOfBlock + stream;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) keys[n][v].clear(), values[n][v].clear();
      if (position >= end) continue;
      const K* const key = cache.key(position);
      const V* const value = cache.value(position);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int d = (v * kShare + lane) * kVector;
        if (d < kKey) load_part(keys[n][v], key, d, kKey, whole);
        if (d < kValue) load_part(values[n][v], value, d, kValue, whole);
      }
    }
#pragma unroll
    for (int q = 0; q < kGroup; ++q) {
      float scores[kTogether], top = -float_limits<float>::infinity();
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        float dot = 0.0f;
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          float key[kVector];
          keys[n][v].decode(key);
#pragma unroll
          for (int i = 0; i < kVector; ++i) dot = fmaf(query[q][v][i], key[i], dot);
        }
#pragma unroll
        for (int distance = kShare / 2; distance != 0; distance /= 2) dot += exchange(dot, distance);
        const int64_t position = at + n * kOfBlock + stream;
        scores[n] = position < end ? score(first + q, position, dot) : -float_limits<float>::infinity();
        top = Largest()(top, scores[n]);
      }
      running[q].raise_to(top);
#pragma unroll
      for (int n = 0; n < kTogether; ++n) running[q].add(scores[n], values[n]);
    }
  }
#pragma unroll
  for (int q = 0; q < kGroup; ++q) {
#pragma unroll
    for (int distance = kLanes / 2; distance >= kShare; distance /= 2) running[q].merge(distance);
    const int warp = warp_of_block();
    if (lane_of_warp() == 0) {
      parts.peak(warp, first + q) = running[q].peak;
      parts.weight(warp, first + q) = running[q].weight;
    }
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const int d = (v * kShare + lane) * kVector + i;
        if (stream == 0 && d < kValue) parts.values(warp, first + q)[d] = running[q].out[v][i];
      }
  }
}

// All queries, at most kMost in a pass. The last pass may take some a second time: it makes the same of them.
template <int kMost, int kKey, int kValue, int Q, class Where, class Score>
__device__ __forceinline__ void attend_by_lanes(const float* queries, const Where& cache, int64_t begin, int64_t end,
                                                const Score& score, const WarpParts<Q, kValue>& parts) {
  constexpr int kGroup = Q < kMost ? Q : kMost;
#pragma unroll 1
  for (int q = 0; q < Q; q += kGroup)
    attend_group<kGroup, kKey, kValue>(q < Q - kGroup ? q : Q - kGroup, queries, cache, begin, end, score, parts);
}

}  // namespace detail
}  // namespace onelaunch
