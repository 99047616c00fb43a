// Decode attention of Q queries that read the same keys and values: softmax(score(q . k)) . v, online, in fp32.
//
// A few lanes share a position, each with 8 elements of the head; together they are a stream, and the streams of the
// block take positions in turn, each with a running softmax of its own. The streams' results are merged in a fixed order:
// first those of a warp, then the warps'. Which positions a stream takes depends on begin and end alone.
//
// Masked positions have the score -inf. A query with no finite score gives zeros, or NaN where the graph's own softmax
// would. An unfinished result is not divided; behind each query's values stand its peak and its weight.
#pragma once

#include "scalar.cuh"
#include "team.cuh"

namespace onelaunch {

// The keys and values of one head: element d of position s is at [s * stride + d].
template <class K, class V>
struct Cache {
  const K* keys;
  int64_t key_stride;
  const V* values;
  int64_t value_stride;
};

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
  static constexpr int kStreams = kLanes / kShare;  // of a warp
  static_assert(kShare <= kLanes, "a position fits a warp");
};

// Floats of shared memory that attend() needs for `partial`.
__device__ constexpr int attend_partial(int queries, int value_size) { return kWarps * queries * (value_size + 2); }

namespace detail {

// A vector of a row with `size` elements; `whole`: rows are aligned.
template <class T>
__device__ __forceinline__ void load_part(Raw<T>& raw, const T* row, int at, int size, bool whole) {
  if (at + kVector <= size && whole) {
    raw.load(row + at);
  } else {
    raw.load_some(row + at, size - at);
  }
}

// One query's running softmax in one stream: `peak` is the largest score, `weight` the sum of exp(score - peak), `out`
// the sum of weighted values, not yet divided.
template <int kVectors>
struct Running {
  float peak, weight, out[kVectors][kVector];

  __device__ __forceinline__ void clear() {
    peak = -float_limits<float>::infinity();
    weight = 0.0f;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) out[v][i] = 0.0f;
  }

  // Makes room for scores up to `score`; returns what to subtract from scores.
  __device__ __forceinline__ float raise(float score) {
    const float next = Largest()(peak, score);
    const float base = next == -float_limits<float>::infinity() ? 0.0f : next;  // -inf - -inf would be NaN
    const float factor = exp(peak - base);
    peak = next;
    weight *= factor;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) out[v][i] *= factor;
    return base;
  }

  // Merges with the stream `distance` lanes away; both sides compute the same.
  __device__ __forceinline__ void merge(int distance) {
    raise(exchange(peak, distance));  // both sides are now relative to the same peak
    weight += exchange(weight, distance);
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) out[v][i] += exchange(out[v][i], distance);
  }
};

}  // namespace detail

enum Finish { kEmptyIsZero, kEmptyIsNan, kUnfinished };

// Cuts [begin, end) down to its part: blocks are shared out evenly, each part a run of them, the last ones shorter or
// empty. The program's text calls the block PART_BLOCK.
__device__ __forceinline__ void attend_part(int64_t part, int64_t parts, int64_t& begin, int64_t& end) {
  constexpr int64_t kPartBlock = 64;
  const int64_t blocks = end > begin ? (end - begin + kPartBlock - 1) / kPartBlock : 0;
  const int64_t size = (blocks + parts - 1) / parts * kPartBlock;
  begin += part * size;
  if (begin + size < end) end = begin + size;
}

// out[q * kWide + d] for every query, kWide = kValue, or kValue + 2 for an unfinished one; `queries` holds Q rows of kKey floats. score(q, s, dot) is the score of query q at
// position s (scale, soft cap, mask, bias). All computing threads call it, after a barrier; it ends with one.
template <int Q, int kKey, int kValue, Finish kFinish, class K, class V, class Score>
__device__ __forceinline__ void attend(const float* queries, const Cache<K, V>& cache, int64_t begin, int64_t end,
                                       const Score& score, float* out, float* partial) {
  using Split = Heads<kKey, kValue>;
  constexpr int kVectors = Split::kVectors, kShare = Split::kShare, kStreams = Split::kStreams;
  const int lane = lane_of_warp() % kShare, stream = lane_of_warp() / kShare;
  const bool whole = is_aligned(cache.keys, cache.key_stride * int64_t(sizeof(K))) &&
                     is_aligned(cache.values, cache.value_stride * int64_t(sizeof(V)));
  float query[Q][kVectors][kVector];
#pragma unroll
  for (int q = 0; q < Q; ++q)
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const int d = (v * kShare + lane) * kVector + i;
        query[q][v][i] = d < kKey ? queries[q * kKey + d] : 0.0f;
      }
  detail::Running<kVectors> running[Q];
#pragma unroll
  for (int q = 0; q < Q; ++q) running[q].clear();
  for (int64_t at = begin + warp_of_block() * kStreams; at < end; at += kWarps * kStreams) {
    const int64_t position = at + stream;
    const bool valid = position < end;
    Raw<K> keys[kVectors];
    Raw<V> values[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int d = (v * kShare + lane) * kVector;
      keys[v].clear();
      values[v].clear();
      if (valid && d < kKey) detail::load_part(keys[v], cache.keys + position * cache.key_stride, d, kKey, whole);
      if (valid && d < kValue)
        detail::load_part(values[v], cache.values + position * cache.value_stride, d, kValue, whole);
    }
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      float dot = 0.0f;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        float key[kVector];
        keys[v].decode(key);
#pragma unroll
        for (int i = 0; i < kVector; ++i) dot = fmaf(query[q][v][i], key[i], dot);
      }
#pragma unroll
      for (int distance = kShare / 2; distance != 0; distance /= 2) dot += exchange(dot, distance);
      const float scored = valid ? score(q, position, dot) : -float_limits<float>::infinity();
      const float base = running[q].raise(scored);
      const float weight = exp(scored - base);
      running[q].weight += weight;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        float value[kVector];
        values[v].decode(value);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          // A masked position's memory may hold anything: 0 * NaN must not get in.
          const float part = weight == 0.0f ? 0.0f : value[i];
          running[q].out[v][i] = fmaf(weight, part, running[q].out[v][i]);
        }
      }
    }
  }
  float* const peaks = partial + kWarps * Q * kValue;
  float* const weights = peaks + kWarps * Q;
#pragma unroll
  for (int q = 0; q < Q; ++q) {
#pragma unroll
    for (int distance = kLanes / 2; distance >= kShare; distance /= 2) running[q].merge(distance);
    const int row = warp_of_block() * Q + q;
    if (lane_of_warp() == 0) {
      peaks[row] = running[q].peak;
      weights[row] = running[q].weight;
    }
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const int d = (v * kShare + lane) * kVector + i;
        if (stream == 0 && d < kValue) partial[row * kValue + d] = running[q].out[v][i];
      }
  }
  sync_block();
  for (int i = thread_of_block(); i < Q * kValue; i += kThreads) {
    const int q = i / kValue;
    float peak = peaks[q];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) peak = Largest()(peak, peaks[warp * Q + q]);
    const float base = peak == -float_limits<float>::infinity() ? 0.0f : peak;
    float weight = 0.0f, sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const float factor = exp(peaks[warp * Q + q] - base);
      weight = fmaf(weights[warp * Q + q], factor, weight);
      sum = fmaf(partial[warp * Q * kValue + i], factor, sum);
    }
    if constexpr (kFinish == kUnfinished) {
      constexpr int kWide = kValue + 2;
      out[q * kWide + i % kValue] = sum;
      if (i % kValue == 0) {
        out[q * kWide + kValue] = peak;
        out[q * kWide + kValue + 1] = weight;
      }
    } else {
      const float empty = kFinish == kEmptyIsNan ? float_limits<float>::quiet_NaN() : 0.0f;
      out[i] = weight == 0.0f ? empty : sum / weight;
    }
  }
  sync_block();
}

// One more than the last position of [begin, end) for which holds(position), or `begin` where there is none. All
// computing threads call it and get the same.
template <class Condition>
__device__ __forceinline__ int64_t last_position(int64_t begin, int64_t end, const Condition& holds,
                                                 Exchange& exchange) {
  int64_t found = begin;
  for (int64_t high = end; high > begin && found == begin; high -= kThreads) {
    const int64_t position = high - 1 - thread_of_block();
    found = reduce_block<Largest>(position >= begin && holds(position) ? position + 1 : begin, exchange);
  }
  return found;
}

}  // namespace onelaunch
