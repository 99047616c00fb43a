// Decode-time matrix products: acc[t][n] = sum over k of x[t][k] * w[n][k], weights streamed once and used in place.
//
// A decode step is bound by the bytes of its weights, so everything here serves the stream: several rows are read side
// by side for independent accumulation chains, a bf16 vector is decoded by one shift and one mask, and the activations
// are prepared once per task in the order in which decoding leaves the weights. The token count T is a template
// argument; above kTokenGroup tokens the rows are visited once per group while they are still in the L1 cache.
//
// Determinism: every (token, row) has one accumulator vector, updated in the order of k and summed by a fixed tree. The
// bits depend on the K range and the machine's vector width only; not on the tile [n0, n1), not on T, not on who runs it.
#pragma once

#include <cstdint>
#include <cstring>

#include "vec.h"

namespace onelaunch {

inline constexpr int kTokenGroup = 8;    // tokens that share one pass over the weights
inline constexpr int kInnerBlock = 32;   // granularity of K: prepared activations are padded to it, splits fall on it
inline constexpr int kPairLanes = 2 * kLanes;
static_assert(kInnerBlock % kPairLanes == 0, "a block of K is a whole number of decoded pairs");

inline constexpr int64_t padded(int64_t k) { return (k + kInnerBlock - 1) / kInnerBlock * kInnerBlock; }

// Floats that `prepare` writes.
inline constexpr int64_t prepared_size(int tokens, int64_t k) { return tokens * padded(k); }

// Where prepare<W, T> puts x[t][k]: groups of tokens, then pairs along k, then the tokens of the group, then the lanes.
template <class W, int T>
inline int64_t prepared_index(int t, int64_t k, int64_t length) {
  const int group = t / kTokenGroup * kTokenGroup;
  const int width = T - group < kTokenGroup ? T - group : kTokenGroup;
  return group * padded(length) + (k / kPairLanes * width + (t - group)) * kPairLanes +
         Decode<W>::position(int(k % kPairLanes));
}

// Rearranges x[t * x_stride + k], 0 <= k < length, for weights of type W; `out` holds prepared_size(T, length) floats.
template <class W, int T>
inline void prepare(const float* x, int64_t x_stride, int64_t length, float* out) {
  for (int t = 0; t < T; ++t) {
    const float* from = x + t * x_stride;
    const int64_t whole = length / kPairLanes * kPairLanes;
    for (int64_t k = 0; k < whole; k += kPairLanes) {
      float* to = out + prepared_index<W, T>(t, k, length);
#pragma GCC unroll 32
      for (int i = 0; i < kPairLanes; ++i) to[Decode<W>::position(i)] = from[k + i];
    }
    for (int64_t k = whole; k < padded(length); ++k)
      out[prepared_index<W, T>(t, k, length)] = k < length ? from[k] : 0.0f;
  }
}

namespace detail {

// Rows read side by side: enough chains to hide the latency of FMA, few enough that accumulators stay in registers.
inline constexpr int rows_at_once(int tokens) {
  const int budget = kVecRegisters >= 32 ? 16 : 8;
  return tokens >= budget ? 1 : budget / tokens > 8 ? 8 : budget / tokens;
}

template <class W, int T, int R>
inline void multiply_block(const float* x, const W* const (&w)[R], int64_t offset, floatv (&acc)[R][T]) {
#pragma GCC unroll 8
  for (int i = 0; i < kInnerBlock; i += kPairLanes) {
    Pair weight[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) weight[r] = Decode<W>::load(w[r] + offset + i);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const float* at = x + (int64_t(i) / kPairLanes * T + t) * kPairLanes;
      const floatv first = load(at), second = load(at + kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][t] = fma(weight[r].first, first, acc[r][t]);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][t] = fma(weight[r].second, second, acc[r][t]);
    }
  }
}

// R rows against T <= kTokenGroup tokens. `x` points at the prepared group at k0.
template <class W, int T, int R>
inline void multiply_rows(const float* x, const W* w, int64_t row_stride, int64_t k0, int64_t k1, int64_t ahead,
                          float* out, int64_t out_stride, bool accumulate) {
  const W* rows[R];
  for (int r = 0; r < R; ++r) rows[r] = w + r * row_stride;
  floatv acc[R][T] = {};
  int64_t k = k0;
  for (; k + kInnerBlock <= k1; k += kInnerBlock) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      for (int byte = 0; byte < kInnerBlock * int(sizeof(W)); byte += 64)
        __builtin_prefetch((const char*)(rows[r] + k + ahead) + byte, 0, ONELAUNCH_HINT);
    multiply_block<W, T, R>(x, rows, k, acc);
    x += T * kInnerBlock;
  }
  if (k < k1) {  // the weights past the end of a row are not ours to read
    W tail[R][kInnerBlock] = {};
    const W* tails[R];
    for (int r = 0; r < R; ++r) {
      std::memcpy(tail[r], rows[r] + k, size_t(k1 - k) * sizeof(W));
      tails[r] = tail[r];
    }
    multiply_block<W, T, R>(x, tails, 0, acc);
  }
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < R; ++r) {
      float* to = out + t * out_stride + r;
      *to = accumulate ? *to + sum(acc[r][t]) : sum(acc[r][t]);
    }
}

template <class W, int T, int R>
inline void multiply_groups(const float* x, const W* w, int64_t row_stride, int64_t length, int64_t k0, int64_t k1,
                            int64_t ahead, float* out, int64_t out_stride, bool accumulate) {
  if constexpr (T <= kTokenGroup) {
    multiply_rows<W, T, R>(x + T * k0, w, row_stride, k0, k1, ahead, out, out_stride, accumulate);
  } else {
    multiply_rows<W, kTokenGroup, R>(x + kTokenGroup * k0, w, row_stride, k0, k1, ahead, out, out_stride, accumulate);
    multiply_groups<W, T - kTokenGroup, R>(x + kTokenGroup * padded(length), w, row_stride, length, k0, k1, 0,
                                           out + kTokenGroup * out_stride, out_stride, accumulate);
  }
}

}  // namespace detail

// acc[t * acc_stride + n - n0] = (accumulate ? itself : 0) + sum over k0 <= k < k1 of x[t][k] * w[n * row_stride + k],
// for n0 <= n < n1. `x` is prepare<W, T>(..., length); k0 is a multiple of kInnerBlock, and so is k1 unless it is
// `length`. Splitting K changes the order of the sum, so all workers must split in the same places.
template <class W, int T>
inline void linear(const float* x, const W* w, int64_t row_stride, int64_t length, int64_t k0, int64_t k1, int64_t n0,
                   int64_t n1, float* acc, int64_t acc_stride, bool accumulate = false) {
  constexpr int kRows = detail::rows_at_once(T);
  int64_t n = n0;
  for (; n + kRows <= n1; n += kRows)
    detail::multiply_groups<W, T, kRows>(x, w + n * row_stride, row_stride, length, k0, k1, kRows * row_stride,
                                         acc + n - n0, acc_stride, accumulate);
  for (; n < n1; ++n)
    detail::multiply_groups<W, T, 1>(x, w + n * row_stride, row_stride, length, k0, k1, row_stride, acc + n - n0,
                                     acc_stride, accumulate);
}

}  // namespace onelaunch
