// Products with matrices in the layout [out, in], streamed through the ring: out[t][n] = sum over k of x[t][k] w[n][k].
//
// A stage holds a chunk of 8 rows and belongs to one warp: its lanes run along the chunk, all 8 rows at once, for a few
// tokens at a time; the lanes' sums are then folded so that each row's ends up in one lane, and added to the warp's own
// accumulators in shared memory. Chunks of one row are taken in order, or by `kSlices` warps in parallel where there are
// few rows; the epilogue adds the slices in order. So the result does not depend on timing.
#pragma once

#include "ring.cuh"

namespace onelaunch {

namespace detail {

// Eight sums over the lanes at once: sum r ends up in lanes 4 r to 4 r + 3.
__device__ __forceinline__ float fold_rows(float (&sums)[kRowsOfStage]) {
  static_assert(kRowsOfStage == 8, "three halvings leave one value");
  const int lane = lane_of_warp();
#pragma unroll
  for (int half = 4, distance = 16; half != 0; half /= 2, distance /= 2) {
    const bool upper = lane & distance;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float given = upper ? sums[i] : sums[i + half], kept = upper ? sums[i + half] : sums[i];
      sums[i] = kept + exchange(given, distance);
    }
  }
  float sum = sums[0];
  sum += exchange(sum, 2);
  return sum + exchange(sum, 1);
}

template <int kTogether, class W, class X>
__device__ __forceinline__ void multiply(const W* rows, int row_pitch, const X* x, int x_pitch, int length,
                                         float* accumulators, int token_pitch) {
  float sums[kTogether][kRowsOfStage] = {};
  for (int k = lane_of_warp() * kVector; k < length; k += kLanes * kVector) {
    Raw<W> raw[kRowsOfStage];
#pragma unroll
    for (int r = 0; r < kRowsOfStage; ++r) raw[r].load(rows + r * row_pitch + k);
    float values[kTogether][kVector];
#pragma unroll
    for (int t = 0; t < kTogether; ++t) {
      Raw<X> token;
      token.load(x + t * x_pitch + k);
      token.decode(values[t]);
    }
#pragma unroll
    for (int r = 0; r < kRowsOfStage; ++r) {
      float weights[kVector];
      raw[r].decode(weights);
#pragma unroll
      for (int t = 0; t < kTogether; ++t)
#pragma unroll
        for (int i = 0; i < kVector; ++i) sums[t][r] = fmaf(weights[i], values[t][i], sums[t][r]);
    }
  }
  const int lane = lane_of_warp();
#pragma unroll
  for (int t = 0; t < kTogether; ++t) {
    const float sum = fold_rows(sums[t]);
    if (lane % 4 == 0) accumulators[t * token_pitch + lane / 4] += sum;
  }
}

}  // namespace detail

// Tokens that one pass over a stage serves; x holds a multiple of it. Eight would not fit the registers: with ten warps a
// thread has 168.
__device__ constexpr int tokens_together(int tokens) { return tokens >= 3 ? 4 : tokens; }

// Columns [0, columns) of every matrix; `columns` <= kColumns. accumulators[matrix][slice][token][column]. Rows of x lie
// `x_pitch` apart and are filled up with zeros to whole vectors. All computing warps call it; a barrier must follow
// before the result is read, and one must precede it after the last result was read.
//
// A function of its own: kernels that differ in prologue and epilogue only share it, and it is most of their code.
template <class W, int kTokens, int kMatrices, int kSlices, int kColumns, class Memory, int kStages, class X>
__device__ __noinline__ void linear(Stages<kStages>& stages, const X* x, int x_pitch, int size, int columns,
                                    float* accumulators) {
  Memory::assume(x);
  Shared::assume(accumulators);
  constexpr int kTogether = tokens_together(kTokens);
  constexpr int kStep = kWarps / kSlices;
  constexpr int kPadded = (kTokens + kTogether - 1) / kTogether * kTogether;
  static_assert(kWarps % kSlices == 0 && kColumns % kRowsOfStage == 0, "warps and columns divide evenly");
  const Cut<W> cut(size);
  const int groups = (columns + kRowsOfStage - 1) / kRowsOfStage, items = groups * kMatrices;
  const int first = warp_of_block() / kSlices, slice = warp_of_block() % kSlices;
  const auto own = [&](int g) {
    return accumulators + ((g / groups) * kSlices + slice) * kPadded * kColumns + g % groups * kRowsOfStage;
  };
  for (int g = first; g < items; g += kStep)
    for (int i = lane_of_warp(); i < kPadded * kRowsOfStage; i += kLanes)
      own(g)[i / kRowsOfStage * kColumns + i % kRowsOfStage] = 0.0f;
  __syncwarp();
  for (int c = 0; c < cut.chunks; ++c) {
    for (int g = 0; g < items; ++g) {
      if (c % kSlices != slice || g % kStep != first) {
        stages.pass(c * items + g);
        continue;
      }
      const W* const rows = reinterpret_cast<const W*>(stages.wait_for(c * items + g));
      Shared::assume(rows);
#pragma unroll 1
      for (int t = 0; t < kPadded; t += kTogether)
        detail::multiply<kTogether>(rows, cut.chunk, x + t * x_pitch + c * cut.chunk, x_pitch, cut.length(c, size),
                                    own(g) + t * kColumns, kColumns);
      stages.release(c * items + g);
    }
  }
  stages.advance(cut.chunks * items);
}

}  // namespace onelaunch
