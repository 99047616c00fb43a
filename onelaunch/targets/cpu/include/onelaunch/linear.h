// Decode-time matrix products: acc[t][n] = sum over k of x[t][k] * w[n][k], weights streamed once and used in place.
//
// A decode step is bound by the bytes of its weights, so everything here serves the stream: a tile is cut into a few
// bands of rows that are read side by side, a bf16 vector is decoded by one shift and one mask, and the activations are
// prepared once per task in the order in which decoding leaves the weights. The token count T is a template argument;
// above kTokenGroup tokens the rows are visited once per group while they are still in the L1 cache.
//
// Bands, not neighbouring rows: each band is one long run of memory, which the hardware's prefetcher follows. Rows that
// are neighbours are short runs (1,152 bytes in a model of hidden size 576) that end before it has learned them; read
// that way, the same weights took a third longer (benchmarks/cpu_stream.cpp).
//
// Determinism: every (token, row) has one accumulator vector, updated in the order of k and summed by a fixed tree. The
// bits depend on the K range and the machine's vector width only; not on the tile [n0, n1), not on T, not on who runs it.
#pragma once

#include <cstdint>
#include <cstring>

#include "prefetch.h"
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

// Rearranges x[t * x_stride + k], 0 <= k < length, for weights of type W; `out` holds prepared_size(T, length) floats
// and should be aligned to 64 bytes (loads that cross cache lines cost T = 4 a quarter of its speed).
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

// Bands of a tile, one row of each at a time: as many as keep their accumulators in registers (of 16, ten leave room for
// the operands), and no more than a prefetcher follows well (4 beat 2, 5, 6 and 8 on Zen 4).
inline constexpr int bands(int tokens) {
  const int fit = (kVecRegisters >= 32 ? 20 : 10) / tokens;
  return fit > 4 ? 4 : fit < 1 ? 1 : fit;
}

// kInnerBlock steps of K. The side that is wider is walked outside, so that the other one's operands stay in registers.
template <class W, int T, int R>
inline void multiply_block(const float* x, const W* const (&w)[R], int64_t offset, floatv (&acc)[R][T]) {
#pragma GCC unroll 8
  for (int i = 0; i < kInnerBlock; i += kPairLanes) {
    const float* at = x + i * T;
    if constexpr (R > T) {
      Pair token[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) token[t] = {load(at + t * kPairLanes), load(at + t * kPairLanes + kLanes)};
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Pair weight = Decode<W>::load(w[r] + offset + i);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) acc[r][t] = fma(weight.first, token[t].first, acc[r][t]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) acc[r][t] = fma(weight.second, token[t].second, acc[r][t]);
      }
    } else {
      Pair weight[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) weight[r] = Decode<W>::load(w[r] + offset + i);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Pair token = {load(at + t * kPairLanes), load(at + t * kPairLanes + kLanes)};
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r][t] = fma(weight[r].first, token.first, acc[r][t]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r][t] = fma(weight[r].second, token.second, acc[r][t]);
      }
    }
  }
}

// The last, partial block of K: what lies past the end of a row is not ours to read. Apart, to keep its buffer and its
// registers out of the loop that matters.
template <class W, int T, int R>
__attribute__((noinline)) void multiply_tail(const float* x, const W* const (&w)[R], int64_t k, int64_t count,
                                             floatv (&acc)[R][T]) {
  W tail[R][kInnerBlock] = {};
  const W* tails[R];
  for (int r = 0; r < R; ++r) {
    std::memcpy(tail[r], w[r] + k, size_t(count) * sizeof(W));
    tails[r] = tail[r];
  }
  floatv sums[R][T];
  std::memcpy(sums, acc, sizeof(sums));
  multiply_block<W, T, R>(x, tails, 0, sums);
  std::memcpy(acc, sums, sizeof(sums));
}

template <int R>
inline void sum_rows(const floatv* sums, float* totals) {
  if constexpr ((R & (R - 1)) != 0) {
    sum_rows<R - 1>(sums, totals);
    sum_rows<1>(sums + R - 1, totals + R - 1);
  } else {
    const floatv total = sum_each<R>(sums);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) totals[r] = total[r * (kLanes / R)];
  }
}

// R rows, `between` elements apart, against T <= kTokenGroup tokens; `x` points at k0 in the prepared group. Asks for
// what each band needs `ahead` elements later: the hardware's prefetcher stops at every page.
template <class W, int T, int R>
inline void multiply_rows(const float* x, const W* w, int64_t between, int64_t k0, int64_t k1, int64_t ahead,
                          float* out, int64_t out_between, int64_t out_stride, bool accumulate) {
  const W* rows[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) rows[r] = w + r * between;
  floatv acc[R][T] = {};
  int64_t k = k0;
  for (; k + kInnerBlock <= k1; k += kInnerBlock) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int byte = 0; byte < kInnerBlock * int(sizeof(W)); byte += kLineBytes)
        prefetch_line((const char*)(rows[r] + k + ahead) + byte);
    multiply_block<W, T, R>(x, rows, k, acc);
    x += T * kInnerBlock;
  }
  if (k < k1) {
    floatv sums[R][T];
    std::memcpy(sums, acc, sizeof(sums));
    multiply_tail<W, T, R>(x, rows, k, k1 - k, sums);
    std::memcpy(acc, sums, sizeof(sums));
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    floatv sums[R];
    float totals[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[r] = acc[r][t];
    sum_rows<R>(sums, totals);
    float* to = out + t * out_stride;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) to[r * out_between] = accumulate ? to[r * out_between] + totals[r] : totals[r];
  }
}

template <class W, int T, int R>
inline void multiply_groups(const float* x, const W* w, int64_t between, int64_t length, int64_t k0, int64_t k1,
                            int64_t ahead, float* out, int64_t out_between, int64_t out_stride, bool accumulate) {
  if constexpr (T <= kTokenGroup) {
    multiply_rows<W, T, R>(x + T * k0, w, between, k0, k1, ahead, out, out_between, out_stride, accumulate);
  } else {
    multiply_rows<W, kTokenGroup, R>(x + kTokenGroup * k0, w, between, k0, k1, ahead, out, out_between, out_stride,
                                     accumulate);
    multiply_groups<W, T - kTokenGroup, R>(x + kTokenGroup * padded(length), w, between, length, k0, k1, 0,
                                           out + kTokenGroup * out_stride, out_between, out_stride, accumulate);
  }
}

// `count` rows in R bands; the rows that are left over are not visited. Returns how many were.
template <class W, int T, int R>
inline int64_t multiply_bands(const float* x, const W* w, int64_t row_stride, int64_t length, int64_t k0, int64_t k1,
                              int64_t count, float* acc, int64_t acc_stride, bool accumulate) {
  const int64_t rows = count / R, row_bytes = (k1 - k0) * int64_t(sizeof(W)), reach = kPrefetchBytes / R;
  const bool one_run = row_stride == k1 - k0;
  const int64_t ahead = one_run ? reach / int64_t(sizeof(W)) : (reach + row_bytes - 1) / row_bytes * row_stride;
  for (int64_t n = 0; n < rows; ++n)
    multiply_groups<W, T, R>(x, w + n * row_stride, rows * row_stride, length, k0, k1, ahead, acc + n, rows, acc_stride,
                             accumulate);
  return rows * R;
}

}  // namespace detail

// acc[t * acc_stride + n - n0] = (accumulate ? itself : 0) + sum over k0 <= k < k1 of x[t][k] * w[n * row_stride + k],
// for n0 <= n < n1. `x` is prepare<W, T>(..., length); k0 is a multiple of kInnerBlock, and so is k1 unless it is
// `length`. Splitting K changes the order of the sum, so all workers must split in the same places.
template <class W, int T>
inline void linear(const float* x, const W* w, int64_t row_stride, int64_t length, int64_t k0, int64_t k1, int64_t n0,
                   int64_t n1, float* acc, int64_t acc_stride, bool accumulate = false) {
  if (k1 <= k0) {
    for (int t = 0; t < T && !accumulate; ++t)
      for (int64_t n = n0; n < n1; ++n) acc[t * acc_stride + n - n0] = 0.0f;
    return;
  }
  w += n0 * row_stride;
  constexpr int kBands = detail::bands(T < kTokenGroup ? T : kTokenGroup);
  const int64_t done = detail::multiply_bands<W, T, kBands>(x, w, row_stride, length, k0, k1, n1 - n0, acc, acc_stride,
                                                            accumulate);
  if constexpr (kBands > 1)
    detail::multiply_bands<W, T, 1>(x, w + done * row_stride, row_stride, length, k0, k1, n1 - n0 - done, acc + done,
                                    acc_stride, accumulate);
}

// Asks for what linear<W, T> reads first of the same tile: the beginning of each band.
template <class W, int T>
inline void prefetch_linear(const W* w, int64_t row_stride, int64_t length, int64_t n0, int64_t n1) {
  constexpr int kBands = detail::bands(T < kTokenGroup ? T : kTokenGroup), kSize = int(sizeof(W));
  const int64_t rows = (n1 - n0) / kBands;
  for (int r = 0; r < kBands; ++r)
    prefetch(w, row_stride * kSize, length * kSize, n0 + r * rows, rows, kPrefetchAcross / kBands);
}

}  // namespace onelaunch
