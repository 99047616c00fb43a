// Decode attention of Q queries that read the same keys and values: softmax(score(q . k)) . v, online, in fp32.
//
// Positions are taken in blocks of kAttendBlock: dot products of the block (linear.h, with positions as rows), then the
// score function and the softmax update over the block's lanes, then the values (linear_columns.h). Blocks are counted
// from `begin`, so a range gives the same bits whoever computes it; ranges of one row are merged in a fixed order.
//
// Masked positions have the score -inf. A row with no finite score gives zeros (torch's _safe_softmax), or NaN where
// the graph's own softmax would (`empty_is_zero` false). Scores that are merely very small (a mask of finfo.min) are
// ordinary numbers: a row of nothing else is uniform.
#pragma once

#include <cmath>
#include <cstdint>

#include "linear.h"
#include "linear_columns.h"
#include "math.h"
#include "prefetch.h"
#include "vec.h"

namespace onelaunch {

inline constexpr int kAttendBlock = 64;
static_assert(kAttendBlock % kLanes == 0, "a block is a whole number of vectors");

// The keys and values of one head in one piece: element d of position s is at [s * stride + d].
template <class K, class V>
struct Cache {
  using Key = K;
  using Value = V;
  const K* keys;
  int64_t key_stride;
  const V* values;
  int64_t value_stride;
  int64_t key_size, value_size;  // elements of a head

  const K* key(int64_t position) const { return keys + position * key_stride; }
  const V* value(int64_t position) const { return values + position * value_stride; }

  // How many rows from `position` on, of `count`, are a stride apart.
  int64_t run(int64_t, int64_t count) const { return count; }
};

// Keys and values in pages: the row of position s begins at [key_row(s)]. Rows are a stride apart within the `page`
// positions from a multiple of it on.
template <class K, class KeyRow, class V, class ValueRow>
struct Pages {
  using Key = K;
  using Value = V;
  const K* keys;
  KeyRow key_row;
  int64_t key_stride;
  const V* values;
  ValueRow value_row;
  int64_t value_stride, key_size, value_size, page;

  const K* key(int64_t position) const { return keys + key_row(position); }
  const V* value(int64_t position) const { return values + value_row(position); }

  int64_t run(int64_t position, int64_t count) const {
    const int64_t left = page - position % page;
    return left < count ? left : count;
  }
};
template <class K, class KeyRow, class V, class ValueRow>
Pages(const K*, KeyRow, int64_t, const V*, ValueRow, int64_t, int64_t, int64_t, int64_t)
    -> Pages<K, KeyRow, V, ValueRow>;

// The running softmax of one query: `peak` is the largest score, `weight` the sum of exp(score - peak). The output
// beside it is not yet divided by the weight.
struct Softmax {
  float peak, weight;
};

namespace detail {

// Turns a block of scores into weights, updates the state, returns the factor for what was accumulated before.
inline float update(float (&scores)[kAttendBlock], Softmax& state) {
  floatv highest = load(scores);
  for (int i = kLanes; i < kAttendBlock; i += kLanes) {
    const floatv next = load(scores + i);
    highest = next > highest ? next : highest;
  }
  const float block_peak = max(highest);
  const float peak = state.peak > block_peak ? state.peak : block_peak;
  const float base = peak == -INFINITY ? 0.0f : peak;  // -inf - -inf would be NaN
#pragma omp simd
  for (int i = 0; i < kAttendBlock; ++i) scores[i] = exp(scores[i] - base);
  floatv total = load(scores);
  for (int i = kLanes; i < kAttendBlock; i += kLanes) total += load(scores + i);
  const float factor = exp(state.peak - base);
  state = {peak, fma(state.weight, factor, sum(total))};
  return factor;
}

// take(first, n) for each run of `count` positions from `begin` on; the first is counted from there.
template <class Where, class Take>
inline void each_run(const Where& cache, int64_t begin, int64_t count, const Take& take) {
  for (int64_t at = 0, n = 0; at < count; at += n) {
    n = cache.run(begin + at, count - at);
    take(at, n);
  }
}

// Asks for the rows of neighbouring positions.
template <class T>
inline void prefetch_rows(const T* row, int64_t stride, int64_t size, int64_t count) {
  prefetch(row, stride * int64_t(sizeof(T)), size * int64_t(sizeof(T)), 0, count);
}

}  // namespace detail

// Before the first range. `sinks`, if not null, is one logit a query that takes part in the sum and has no value.
template <int Q>
inline void attend_begin(int64_t value_size, const float* sinks, Softmax* state, float* out, int64_t out_stride) {
  for (int q = 0; q < Q; ++q) {
    state[q] = sinks ? Softmax{sinks[q], 1.0f} : Softmax{-INFINITY, 0.0f};
    for (int64_t d = 0; d < value_size; ++d) out[q * out_stride + d] = 0.0f;
  }
}

// Adds positions begin <= s < end. `queries` is prepare<K, Q>(..., key_size); score(q, s, dot) returns the score of
// query q at position s (scale, soft cap, mask, bias) and is called inside a simd loop over s.
template <int Q, class Where, class Score>
inline void attend_range(const float* queries, const Where& cache, int64_t begin, int64_t end, const Score& score,
                         Softmax* state, float* out, int64_t out_stride) {
  alignas(64) float scores[Q][kAttendBlock];
  alignas(64) float weights[Q * kAttendBlock];
  for (int64_t at = begin; at < end; at += kAttendBlock) {
    const int count = int(end - at < kAttendBlock ? end - at : kAttendBlock);
    const int64_t after = end - at - count < kAttendBlock ? end - at - count : kAttendBlock;
    detail::each_run(cache, at, count, [&](int64_t i, int64_t n) {
      detail::prefetch_rows(cache.value(at + i), cache.value_stride, cache.value_size, n);
    });
    detail::each_run(cache, at + count, after, [&](int64_t i, int64_t n) {
      detail::prefetch_rows(cache.key(at + count + i), cache.key_stride, cache.key_size, n);
    });
    detail::each_run(cache, at, count, [&](int64_t i, int64_t n) {
      linear<typename Where::Key, Q>(queries, cache.key(at + i), cache.key_stride, cache.key_size, 0, cache.key_size, 0,
                                     n, scores[0] + i, kAttendBlock);
    });
    for (int q = 0; q < Q; ++q) {
      float* row = scores[q];
#pragma omp simd
      for (int i = 0; i < count; ++i) row[i] = score(q, at + i, row[i]);
      for (int i = count; i < kAttendBlock; ++i) row[i] = -INFINITY;
      const float factor = detail::update(scores[q], state[q]);
      float* to = out + q * out_stride;
      if (factor != 1.0f) {
#pragma omp simd
        for (int64_t d = 0; d < cache.value_size; ++d) to[d] *= factor;
      }
    }
    prepare_columns<Q>(scores[0], kAttendBlock, count, weights);
    detail::each_run(cache, at, count, [&](int64_t i, int64_t n) {  // weights are prepared for all of the block
      const typename Where::Value* const first = cache.value(at + i) - i * cache.value_stride;
      linear_columns<typename Where::Value, Q>(weights, first, cache.value_stride, count, i, i + n, 0,
                                               cache.value_size, out, out_stride, true);
    });
  }
}

// Cuts [begin, end) down to its part: blocks are shared out evenly, each part a run of them, the last ones shorter or
// empty. The program's text calls the block PART_BLOCK.
inline void attend_part(int64_t part, int64_t parts, int64_t& begin, int64_t& end) {
  const int64_t blocks = end > begin ? (end - begin + kAttendBlock - 1) / kAttendBlock : 0;
  const int64_t size = (blocks + parts - 1) / parts * kAttendBlock;
  begin += part * size;
  if (begin + size < end) end = begin + size;
}

// Adds another range's unfinished result. Merging parts in the order of their positions gives the same bits always.
template <int Q>
inline void attend_merge(int64_t value_size, const Softmax* part, const float* part_out, int64_t part_stride,
                         Softmax* state, float* out, int64_t out_stride) {
  for (int q = 0; q < Q; ++q) {
    const float peak = state[q].peak > part[q].peak ? state[q].peak : part[q].peak;
    const float base = peak == -INFINITY ? 0.0f : peak;
    const float old_factor = exp(state[q].peak - base), new_factor = exp(part[q].peak - base);
    state[q] = {peak, fma(state[q].weight, old_factor, part[q].weight * new_factor)};
    float* to = out + q * out_stride;
    const float* from = part_out + q * part_stride;
#pragma omp simd
    for (int64_t d = 0; d < value_size; ++d) to[d] = fma(to[d], old_factor, from[d] * new_factor);
  }
}

// After the last range: divides by the sums of weights.
template <int Q>
inline void attend_end(int64_t value_size, const Softmax* state, float* out, int64_t out_stride, bool empty_is_zero) {
  for (int q = 0; q < Q; ++q) {
    const bool empty = state[q].weight == 0.0f;
    const float scale = empty ? (empty_is_zero ? 0.0f : NAN) : 1.0f / state[q].weight;
    float* to = out + q * out_stride;
#pragma omp simd
    for (int64_t d = 0; d < value_size; ++d) to[d] *= scale;
  }
}

// The whole of it: out[q * out_stride + d] for every query.
template <int Q, class Where, class Score>
inline void attend(const float* queries, const Where& cache, int64_t begin, int64_t end, const Score& score,
                   const float* sinks, float* out, int64_t out_stride, bool empty_is_zero = true) {
  Softmax state[Q];
  attend_begin<Q>(cache.value_size, sinks, state, out, out_stride);
  attend_range<Q>(queries, cache, begin, end, score, state, out, out_stride);
  attend_end<Q>(cache.value_size, state, out, out_stride, empty_is_zero);
}

// The same before its last step: behind each query's `value_size` sums stand its peak and its weight.
template <int Q, class Where, class Score>
inline void attend_unfinished(const float* queries, const Where& cache, int64_t begin, int64_t end, const Score& score,
                              float* out, int64_t out_stride) {
  Softmax state[Q];
  attend_begin<Q>(cache.value_size, nullptr, state, out, out_stride);
  attend_range<Q>(queries, cache, begin, end, score, state, out, out_stride);
  for (int q = 0; q < Q; ++q) {
    out[q * out_stride + cache.value_size] = state[q].peak;
    out[q * out_stride + cache.value_size + 1] = state[q].weight;
  }
}

}  // namespace onelaunch
