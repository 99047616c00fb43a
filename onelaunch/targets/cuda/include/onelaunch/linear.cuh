// Products with matrices in the layout [out, in], streamed through the ring: out[t][n] = sum over k of x[t][k] w[n][k].
//
// A stage holds a chunk of 8 rows. `kAlong` computing warps share it: warp i of them takes 32 elements of every
// 32 * kAlong, of all 8 rows, in which lane 4 r + q holds 8 neighbouring ones of row r. What they hold in the end are parts
// of the same sums, which the epilogue adds in order: nothing depends on timing. With few tokens all 8 warps share every
// stage, which is then eaten at once however few there are; with many, their parts would take too much memory, and teams
// of fewer warps take stages in turn.
#pragma once

#include "halves.cuh"
#include "ring.cuh"
#include "tensor.cuh"

namespace onelaunch {

inline constexpr int kWarpStep = 4 * kVector;  // elements of each row that a warp takes at once

// Warps that share a stage.
__device__ constexpr int warps_along(int tokens) { return tokens <= 4 ? 8 : tokens <= 8 ? 4 : tokens <= 16 ? 2 : 1; }

namespace detail {

// What a warp multiplies with: the inputs of one step, for tiles of 16 tokens. `kHalves`: 2 where x is Halves.
template <class W, int kTokens, int kHalves>
struct Fragment {
  static constexpr bool kBeside = kHalves == 2 && kTokens <= 8;  // second halves are rows 8 to 15 of the same tile
  static constexpr int kTiles = (kTokens + 15) / 16, kPlanes = kBeside ? 1 : kHalves;
  static constexpr int kWords = kTiles * kPlanes * (kBeside || kTokens > 8 ? 8 : 4);
  Raw<W> low[kPlanes][kTiles], high[kPlanes][kTiles];

  // From x[row of the lane][k]; nothing where not `inside`.
  __device__ __forceinline__ void load(const W* x, int pitch, bool inside) {
    const int row = lane_of_warp() / 4;
#pragma unroll
    for (int plane = 0; plane < kPlanes; ++plane)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const W* const at = x + (plane * kTokens + tile * 16 + row) * pitch;
        const int left = kTokens - tile * 16;
        low[plane][tile].load_if(at, inside && row < left);
        if constexpr (kBeside) high[plane][tile].load_if(at + kTokens * pitch, inside && row < left);
        else if (left > 8) high[plane][tile].load_if(at + 8 * pitch, inside && row + 8 < left);
        else high[plane][tile].clear();
      }
  }
};

// The sums of one warp for 8 rows of weights, in two chains of dependent steps.
template <class W, int kTokens, int kHalves>
struct Sums {
  using Part = Fragment<W, kTokens, kHalves>;
  float parts[2][Part::kTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < 2 * Part::kTiles * 4; ++i) (&parts[0][0][0])[i] = 0.0f;
  }

  __device__ __forceinline__ void add(const Raw<W>& weights, const Part& x) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int tile = 0; tile < Part::kTiles; ++tile)
#pragma unroll
        for (int plane = 0; plane < Part::kPlanes; ++plane) {
          const Raw<W>&low = x.low[plane][tile], &high = x.high[plane][tile];
          const Rows16 rows = {{low.words[2 * i], low.words[2 * i + 1]}, {high.words[2 * i], high.words[2 * i + 1]}};
          const uint32_t pair[2] = {weights.words[2 * i], weights.words[2 * i + 1]};
          multiply_add(parts[i][tile], rows, pair, W{});
        }
  }

  // to[token][row], tokens `pitch` apart, in addition to what is there if `more`.
  __device__ __forceinline__ void store(float* to, int pitch, bool more) const {
    const int token = lane_of_warp() / 4, row = lane_of_warp() % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < Part::kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = tile * 16 + token + i / 2 * 8;
        float sum = parts[0][tile][i] + parts[1][tile][i];
        if constexpr (Part::kBeside) sum += parts[0][tile][i ^ 2] + parts[1][tile][i ^ 2];
        if (t < kTokens) to[t * pitch + row + i % 2] = more ? to[t * pitch + row + i % 2] + sum : sum;
      }
  }
};

// The same by plain arithmetic, for types that tensor cores would round.
// Any length of the contraction.
template <class W, int kTokens>
struct PlainSums {
  static constexpr int kStep = kWarps * kWarpStep;
  float parts[kTokens];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) parts[t] = 0.0f;
  }

  template <class X>
  __device__ __forceinline__ void add(const W* w, int w_pitch, const X* x, int x_pitch, int length) {
    const int row = lane_of_warp() / 4, first = warp_of_block() * kWarpStep + lane_of_warp() % 4 * kVector;
    for (int k = first; k < length; k += kStep) {
      Raw<W> raw;
      raw.load(w + row * w_pitch + k);
      float weights[kVector];
      raw.decode(weights);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        Raw<X> token;
        token.load(x + t * x_pitch + k);
        float values[kVector];
        token.decode(values);
#pragma unroll
        for (int i = 0; i < kVector; ++i) parts[t] = fmaf(weights[i], values[i], parts[t]);
      }
    }
  }

  __device__ __forceinline__ void store(float* to, int pitch) const {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float sum = parts[t];
      sum += exchange(sum, 1);
      sum += exchange(sum, 2);
      if (lane_of_warp() % 4 == 0) to[t * pitch + lane_of_warp() / 4] = sum;
    }
  }
};

}  // namespace detail

// Columns [0, columns) of every matrix; `columns` <= kColumns. sums[matrix][warp of kAlong][token][column]: the warps'
// parts, in addition to what is there if `more`. x has rows `x_pitch` apart and is of the type of the weights, or Halves of
// it (`kHalves` 2). All computing warps call it; a barrier must follow before the result is read, and one must precede it
// after the last result was read.
//
// A warp needs the same part of x for all rows of weights: it stays in registers if they hold it.
template <class W, int kTokens, int kMatrices, int kColumns, int kHalves, int kSize, class Memory, int kStages>
__device__ __forceinline__ void linear(Stages<kStages>& stages, const W* x, int x_pitch, int columns, float* sums,
                                       bool more = false) {
  using Part = detail::Fragment<W, kTokens, kHalves>;
  constexpr Cut<W> cut(kSize);
  constexpr int kAlong = warps_along(kTokens), kTeams = kWarps / kAlong, kStep = kAlong * kWarpStep;
  constexpr int kSteps = (cut.chunk + kStep - 1) / kStep, kBatch = kSteps < 4 ? kSteps : 4;
  constexpr bool kResident = cut.chunks * kSteps * Part::kWords <= 48;
  constexpr int kKept = kResident ? cut.chunks : 1;
  Memory::assume(x);
  Shared::assume(sums);
  const int along = warp_of_block() % kAlong, team = warp_of_block() / kAlong;
  const int row = lane_of_warp() / 4, first = along * kWarpStep + lane_of_warp() % 4 * kVector;
  const auto inside = [&](int c, int s) {
    return (s + 1) * kStep <= cut.length(c, kSize) || first + s * kStep < cut.length(c, kSize);
  };
  Part own[kKept][kResident ? kSteps : 1];
  const auto take = [&](Part& to, int c, int s) { to.load(x + c * cut.chunk + first + s * kStep, x_pitch, inside(c, s)); };
  if constexpr (kResident) {
#pragma unroll
    for (int c = 0; c < cut.chunks; ++c)
#pragma unroll
      for (int s = 0; s < kSteps; ++s) take(own[c][s], c, s);
  }
  int turn = 0;  // whose team's the next rows are
#pragma unroll 1
  for (int m = 0; m < kMatrices; ++m) {
#pragma unroll 1
    for (int column = 0; column < columns; column += kRowsOfStage) {
      const bool mine = turn == team;
      turn = turn + 1 == kTeams ? 0 : turn + 1;
      if (!mine) {
#pragma unroll 1
        for (int c = 0; c < cut.chunks; ++c) {
          stages.wait();
          stages.release();
        }
        continue;
      }
      detail::Sums<W, kTokens, kHalves> found;
      found.clear();
      const auto add = [&](int c) {
        const W* const rows = reinterpret_cast<const W*>(stages.wait()) + row * cut.chunk + first;
        Shared::assume(rows);
        const auto multiply = [&](int batch) {
          Raw<W> weights[kBatch];
#pragma unroll
          for (int i = 0; i < kBatch; ++i)
            weights[i].load_if(rows + (batch + i) * kStep, batch + i < kSteps && inside(c, batch + i));
          if (batch + kBatch >= kSteps) stages.release();
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {
            if (batch + i >= kSteps) break;
            if constexpr (kResident) {
              found.add(weights[i], own[c][batch + i]);
            } else {
              take(own[0][0], c, batch + i);
              found.add(weights[i], own[0][0]);
            }
          }
        };
        if constexpr (kResident) {
#pragma unroll
          for (int batch = 0; batch < kSteps; batch += kBatch) multiply(batch);
        } else {
#pragma unroll 1
          for (int batch = 0; batch < kSteps; batch += kBatch) multiply(batch);
        }
      };
      if constexpr (kResident) {
#pragma unroll
        for (int c = 0; c < cut.chunks; ++c) add(c);
      } else {
#pragma unroll 1
        for (int c = 0; c < cut.chunks; ++c) add(c);
      }
      found.store(sums + (m * kAlong + along) * kTokens * kColumns + column, kColumns, more);
    }
  }
}

template <class W, int kTokens, int kMatrices, int kColumns, class Memory, int kStages, class X>
__device__ __forceinline__ void linear_plain(Stages<kStages>& stages, const X* x, int x_pitch, int size, int columns,
                                             float* sums) {
  Memory::assume(x);
  Shared::assume(sums);
  const Cut<W> cut(size);
#pragma unroll 1
  for (int m = 0; m < kMatrices; ++m) {
#pragma unroll 1
    for (int column = 0; column < columns; column += kRowsOfStage) {
      detail::PlainSums<W, kTokens> found;
      found.clear();
#pragma unroll 1
      for (int c = 0; c < cut.chunks; ++c) {
        const W* const rows = reinterpret_cast<const W*>(stages.wait());
        Shared::assume(rows);
        found.add(rows, cut.chunk, x + c * cut.chunk, x_pitch, cut.length(c, size));
        stages.release();
      }
      found.store(sums + (m * kWarps + warp_of_block()) * kTokens * kColumns + column, kColumns);
    }
  }
}

}  // namespace onelaunch
