// The matrix product of linear.h for weights stored [in, out]: element (k, n) is at w[k * row_stride + n].
//
// Here the lanes run along n. A worker sweeps a few rows of its tile at a time, with the sums of a chunk of columns in
// the L1 cache, so that memory is still read in long runs. Each (token, column) is one chain of fused multiply-adds in
// the order of k: its bits depend on nothing but the K range.
#pragma once

#include <cstdint>
#include <cstring>

#include "linear.h"

namespace onelaunch {

// Rearranges x[t * x_stride + k] for linear_columns; `out` holds prepared_size(T, length) floats.
template <int T>
inline int64_t prepared_columns_index(int t, int64_t k, int64_t length) {
  const int group = t / kTokenGroup * kTokenGroup;
  const int width = T - group < kTokenGroup ? T - group : kTokenGroup;
  return group * length + k * width + (t - group);
}

template <int T>
inline void prepare_columns(const float* x, int64_t x_stride, int64_t length, float* out) {
  for (int t = 0; t < T; ++t)
    for (int64_t k = 0; k < length; ++k) out[prepared_columns_index<T>(t, k, length)] = x[t * x_stride + k];
}

namespace detail {

// sums[t][...] += x[k + j][t] * rows[j][...] for J rows and kInnerBlock columns, in decoded order.
template <class W, int T, int J, int kWidth>
inline void sweep_block(const float* x, const W* w, int64_t row_stride, float (*sums)[kWidth]) {
#pragma GCC unroll 4
  for (int i = 0; i < kInnerBlock; i += kPairLanes) {
    Pair weight[J];
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) weight[j] = Decode<W>::load(w + j * row_stride + i);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      floatv first = load(sums[t] + i), second = load(sums[t] + i + kLanes);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
        const floatv value = splat(x[j * T + t]);
        first = fma(weight[j].first, value, first);
        second = fma(weight[j].second, value, second);
      }
      store(sums[t] + i, first);
      store(sums[t] + i + kLanes, second);
    }
  }
}

// J rows, `count` columns; the last block of columns is copied, because what lies past it is not ours to read.
template <class W, int T, int J, int kWidth>
inline void sweep_rows(const float* x, const W* w, int64_t row_stride, int64_t ahead, int64_t count,
                       float (*sums)[kWidth]) {
  int64_t n = 0;
  for (; n + kInnerBlock <= count; n += kInnerBlock) {
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 4
      for (int byte = 0; byte < kInnerBlock * int(sizeof(W)); byte += kLineBytes)
        prefetch_line((const char*)(w + ahead + j * row_stride + n) + byte);
    sweep_block<W, T, J, kWidth>(x, w + n, row_stride, (float (*)[kWidth])(sums[0] + n));
  }
  if (n < count) {
    W tail[J][kInnerBlock] = {};
    for (int j = 0; j < J; ++j) std::memcpy(tail[j], w + j * row_stride + n, size_t(count - n) * sizeof(W));
    sweep_block<W, T, J, kWidth>(x, tail[0], kInnerBlock, (float (*)[kWidth])(sums[0] + n));
  }
}

// Out of decoded order.
template <class W>
inline void write_columns(const float* sums, int64_t count, float* out, bool accumulate) {
  for (int64_t i = 0; i < count; i += kPairLanes) {
    float pair[kPairLanes];
#pragma GCC unroll 32
    for (int j = 0; j < kPairLanes; ++j) pair[j] = sums[i + Decode<W>::position(j)];
    const int limit = count - i < kPairLanes ? int(count - i) : kPairLanes;
    if (accumulate)
      for (int j = 0; j < limit; ++j) pair[j] += out[i + j];
    std::memcpy(out + i, pair, size_t(limit) * sizeof(float));
  }
}

template <class W, int T>
inline void sweep_group(const float* x, const W* w, int64_t row_stride, int64_t k0, int64_t k1, int64_t n0, int64_t n1,
                        float* acc, int64_t acc_stride, bool accumulate) {
  constexpr int kWidth = T <= 1 ? 2048 : T <= 2 ? 1024 : T <= 4 ? 512 : 256;
  constexpr int kStep = T == 1 ? 8 : 4;
  alignas(64) float sums[T][kWidth];
  for (int64_t n = n0; n < n1; n += kWidth) {
    const int64_t count = n1 - n < kWidth ? n1 - n : kWidth;
    for (int t = 0; t < T; ++t) std::memset(sums[t], 0, size_t(padded(count)) * sizeof(float));
    int64_t k = k0;
    for (; k + kStep <= k1; k += kStep) {
      const int64_t ahead = k + 2 * kStep <= k1 ? kStep * row_stride : 0;
      sweep_rows<W, T, kStep, kWidth>(x + k * T, w + k * row_stride + n, row_stride, ahead, count, sums);
    }
    for (; k < k1; ++k) sweep_rows<W, T, 1, kWidth>(x + k * T, w + k * row_stride + n, row_stride, 0, count, sums);
    for (int t = 0; t < T; ++t) write_columns<W>(sums[t], count, acc + t * acc_stride + n - n0, accumulate);
  }
}

}  // namespace detail

// acc[t * acc_stride + n - n0] = (accumulate ? itself : 0) + sum over k0 <= k < k1 of x[t][k] * w[k * row_stride + n],
// for n0 <= n < n1. `x` is prepare_columns<T>(..., length); any k0 and k1.
template <class W, int T>
inline void linear_columns(const float* x, const W* w, int64_t row_stride, int64_t length, int64_t k0, int64_t k1,
                           int64_t n0, int64_t n1, float* acc, int64_t acc_stride, bool accumulate = false) {
  constexpr int kGroup = T < kTokenGroup ? T : kTokenGroup;
  detail::sweep_group<W, kGroup>(x, w, row_stride, k0, k1, n0, n1, acc, acc_stride, accumulate);
  if constexpr (T > kTokenGroup)
    linear_columns<W, T - kTokenGroup>(x + kTokenGroup * length, w, row_stride, length, k0, k1, n0, n1,
                                       acc + kTokenGroup * acc_stride, acc_stride, accumulate);
}

}  // namespace onelaunch
