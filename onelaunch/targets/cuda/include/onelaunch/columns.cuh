// Products with matrices in the layout [in, out]: out[t][n] = sum over k of x[t][k] w[k][n].
//
// A tile's part of one row of such a matrix is short, so the copy engine would move crumbs: the computing threads load it
// themselves. A thread owns 8 columns and every kThreads / vectors-th k; lanes that own the same columns are folded, then
// the warps' sums are added in order.
#pragma once

#include "team.cuh"

namespace onelaunch {

// Tokens that one pass over a matrix serves; x holds a multiple of it. Eight would not fit the registers.
__device__ constexpr int tokens_together(int tokens) { return tokens >= 3 ? 4 : tokens; }

// Columns [0, columns), `columns` <= kColumns; accumulators[token][kColumns]; `partial` holds kWarps * 4 * kColumns
// floats. Rows of w lie `pitch` apart. All computing warps call it, after a barrier; one must follow.
template <class W, int kTokens, int kColumns, class X>
__device__ __forceinline__ void linear_columns(const W* w, int64_t pitch, const X* x, int x_pitch, int size, int columns,
                                               float* accumulators, float* partial) {
  constexpr int kTogether = tokens_together(kTokens);
  constexpr int kVectors = kColumns / kVector;
  static_assert(kLanes % kVectors == 0, "whole rows of threads");
  const int vector = thread_of_block() % kVectors, row = thread_of_block() / kVectors;
  const int count = columns - vector * kVector;
  const bool whole = count >= kVector && is_aligned(w + vector * kVector, pitch * int64_t(sizeof(W)));
#pragma unroll 1
  for (int t = 0; t < kTokens; t += kTogether) {
    float sums[kTogether][kVector] = {};
    for (int k = row; k < size && count > 0; k += kThreads / kVectors) {
      Raw<W> raw;
      const W* const from = w + k * pitch + vector * kVector;
      if (whole) raw.load(from); else raw.load_some(from, count);
      float weights[kVector];
      raw.decode(weights);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const float value = to_float(x[(t + i) * x_pitch + k]);
#pragma unroll
        for (int n = 0; n < kVector; ++n) sums[i][n] = fmaf(weights[n], value, sums[i][n]);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
#pragma unroll
      for (int n = 0; n < kVector; ++n) {
#pragma unroll
        for (int distance = kLanes / 2; distance >= kVectors; distance /= 2) sums[i][n] += exchange(sums[i][n], distance);
        if (lane_of_warp() < kVectors)
          partial[(warp_of_block() * kTogether + i) * kColumns + vector * kVector + n] = sums[i][n];
      }
    sync_block();
    for (int i = thread_of_block(); i < kTogether * kColumns; i += kThreads) {
      float sum = partial[i];
#pragma unroll
      for (int warp = 1; warp < kWarps; ++warp) sum += partial[warp * kTogether * kColumns + i];
      accumulators[t * kColumns + i] = sum;
    }
    sync_block();
  }
}

}  // namespace onelaunch
