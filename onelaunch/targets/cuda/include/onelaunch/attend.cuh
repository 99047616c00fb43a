// Decode attention of Q queries that read the same keys and values: softmax(score(q . k)) . v, online, in fp32.
//
// The warps of the block take positions in turn, each with a running softmax of its own, and leave their parts in shared
// memory, where they are merged in a fixed order. Which positions a warp takes depends on their number alone. Keys and
// values of 16 bits go through tensor cores (attend_tensor.cuh); what these cannot take is done lane by lane
// (attend_lanes.cuh).
//
// Masked positions have the score -inf. A query with no finite score gives zeros, or NaN where the graph's own softmax
// would. An unfinished result is not divided; behind each query's values stand its peak and its weight.
#pragma once

#include "attend_lanes.cuh"
#include "attend_tensor.cuh"
#include "newest.cuh"

namespace onelaunch {

enum Finish { kEmptyIsZero, kEmptyIsNan, kUnfinished };

// Cuts [begin, end) down to its part: blocks are shared out evenly, each part a run of them, the last ones shorter or
// empty. The program's text calls the block PART_BLOCK.
__device__ __forceinline__ void attend_part(int64_t part, int64_t parts, int64_t& begin, int64_t& end) {
  constexpr uint32_t kPartBlock = 64;
  const uint32_t blocks = end > begin ? (uint32_t(end - begin) + kPartBlock - 1) / kPartBlock : 0;
  const int64_t size = (blocks + uint32_t(parts) - 1) / uint32_t(parts) * kPartBlock;
  begin += part * size;
  if (begin + size < end) end = begin + size;
}

namespace detail {

// What the warps have left, merged: see attend(). Eight lanes take as many neighbouring elements of a query, and each of
// them works out what the values of one warp are to be multiplied with.
template <int Q, int kValue, Finish kFinish>
__device__ __forceinline__ void merge_parts(const WarpParts<Q, kValue>& parts, float* out) {
  static_assert(kLanes % kWarps == 0, "a lane for each warp");
  constexpr int kGroups = (kValue + kWarps - 1) / kWarps;  // of a query
  const int member = thread_of_block() % kWarps;
#pragma unroll 1
  for (int first = 0; first < Q * kGroups; first += kThreads / kWarps) {
    const int group = first + thread_of_block() / kWarps, q = group < Q * kGroups ? group / kGroups : Q - 1;
    const float own = parts.peak(member, q);
    float peak = own;
#pragma unroll
    for (int distance = 1; distance < kWarps; distance *= 2) peak = Largest()(peak, exchange(peak, distance));
    const float factor = exponential(own - base_of(peak));
    float weight = parts.weight(member, q) * factor;
#pragma unroll
    for (int distance = 1; distance < kWarps; distance *= 2) weight += exchange(weight, distance);
    const int d = group % kGroups * kWarps + member;
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const float value = d < kValue ? parts.values(warp, q)[d] : 0.0f;
      sum = fmaf(value, __shfl_sync(~0u, factor, lane_of_warp() - member + warp), sum);
    }
    if (group >= Q * kGroups || d >= kValue) continue;
    if constexpr (kFinish == kUnfinished) {
      float* const to = out + q * (kValue + 2);
      to[d] = sum;
      if (d == 0) to[kValue] = peak, to[kValue + 1] = weight;
    } else {
      const float empty = kFinish == kEmptyIsNan ? float_limits<float>::quiet_NaN() : 0.0f;
      out[q * kValue + d] = weight == 0.0f ? empty : sum / weight;
    }
  }
}

}  // namespace detail

namespace detail {

// Adds the newest position to what warp 0 has left, a warp a query.
template <int Q, int kKey, int kValue, class Newest, class Score>
__device__ __forceinline__ void add_newest(const float* queries, const Newest& newest, const Score& score,
                                           const WarpParts<Q, kValue>& parts) {
#pragma unroll 1
  for (int q = warp_of_block(); q < Q; q += kWarps) {
    float dot = 0.0f;
#pragma unroll
    for (int d = lane_of_warp(); d < kKey; d += kLanes) dot = fmaf(queries[q * kKey + d], to_float(newest.key[d]), dot);
    const float found = score(q, newest.at, reduce_warp<Sum>(dot));
    float peak = parts.peak(0, q);
    __syncwarp();  // all have read it
    const float factor = raise(peak, found), weight = exponential(found - base_of(peak));
    for (int d = lane_of_warp(); d < kValue; d += kLanes) {
      float& value = parts.values(0, q)[d];
      value = fmaf(value, factor, weight == 0.0f ? 0.0f : weight * to_float(newest.value[d]));
    }
    if (lane_of_warp() == 0) {
      parts.peak(0, q) = peak;
      parts.weight(0, q) = fmaf(parts.weight(0, q), factor, weight);
    }
  }
}

}  // namespace detail

// out[q * kWide + d] for every query, kWide = kValue, or kValue + 2 for an unfinished one. score(q, s, dot) is the score
// of query q at position s (scale, soft cap, mask, bias). prepare() writes the queries, Q rows of kKey floats, to
// `queries` in shared memory; the first keys and values are on their way to L2 meanwhile, or if `kEarly`, which says that
// no ready() is needed, to registers. ready() waits until they have been written. `partial` holds
// WarpParts<Q, kValue>::kFloats. `newest`: what lies in the cache at its position is not looked at. All computing threads
// call it; it ends with a barrier.
template <int Q, int kKey, int kValue, Finish kFinish, bool kEarly = false, class Where, class Prepare, class Ready,
          class Score, class Last = NoNewest>
__device__ __forceinline__ void attend(const Prepare& prepare, const Ready& ready, const float* queries,
                                       const Where& cache, int64_t begin, int64_t end, const Score& scored, float* out,
                                       float* partial, const Last& newest = {}) {
  constexpr bool kHasNewest = Last::kThere;
  const detail::WarpParts<Q, kValue> parts = {partial};
  bool counts = false;  // the newest position, here
  if constexpr (kHasNewest) {
    counts = begin <= newest.at && newest.at < end;
    if (counts && newest.at + 1 == end) --end;
  }
  const auto score = [&](int q, int64_t position, float dot) -> float {
    if constexpr (kHasNewest)
      if (position == newest.at) return -float_limits<float>::infinity();
    return scored(q, position, dot);
  };
  const auto by_lanes = [&] {
    constexpr int kTogether = detail::kFitsTensorCores<kKey, kValue, typename Where::Key, typename Where::Value>
                                  ? 1
                                  : detail::Heads<kKey, kValue>::kQueries;
    detail::attend_by_lanes<kTogether, kKey, kValue>(queries, cache, begin, end, score, parts);
    if constexpr (kHasNewest) {
      if (!counts) return;  // the same for all threads
      if (warp_of_block() == 0) newest.template bring<kKey, kValue>();
      sync_block();
      detail::add_newest<Q, kKey, kValue>(queries, newest, scored, parts);
    }
  };
  if constexpr (detail::kFitsTensorCores<kKey, kValue, typename Where::Key, typename Where::Value>) {
    const bool aligned = cache.is_aligned();
    detail::TensorPass<Q, kKey, kValue, Where> pass(cache, begin, end);
    if (aligned && kEarly) pass.fetch();
    if (aligned) pass.announce();
    prepare();
    ready();
    sync_block();
    if (aligned) {
      if (!kEarly) pass.fetch();
      pass.run(queries, score);
      if constexpr (kHasNewest)
        if (counts && warp_of_block() == kWarps - 1) pass.add(newest, queries, scored);
      pass.store(parts);
    } else {
      by_lanes();
    }
  } else {
    prepare();
    ready();
    sync_block();
    by_lanes();
  }
  sync_block();
  detail::merge_parts<Q, kValue, kFinish>(parts, out);
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
