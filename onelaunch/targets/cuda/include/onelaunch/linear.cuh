// Products with matrices in the layout [out, in], streamed through the ring: out[t][n] = sum over k of x[t][k] w[n][k].
//
// A stage holds a chunk of 8 rows, or several such groups. `kAlong` computing warps share it: warp i of them takes 64
// elements of every 64 * kAlong, of all 8 rows of a group, in which lane 4 r + q holds 16 of row r. What they hold in the end are parts of the same
// sums, which the epilogue adds in order: nothing depends on timing. With few tokens all 8 warps share every group, which
// is then eaten at once however few there are; with many, their parts would take too much memory, and teams of fewer
// warps take the groups of a stage, or, where it has one alone, take stages in turn.
//
// Rows lie in a stage as they do in memory, so the same elements of two rows lie in the same banks. Lanes of odd rows
// therefore read the two halves of a unit in the other order. Up to 8 tokens, half of the tensor cores' 16 rows are free:
// 8 rows hold the first halves of the inputs and 8 the second, and of what comes out, that is taken where inputs and
// weights are of the same half. With more tokens, the weights are swapped.
#pragma once

#include "inputs.cuh"
#include "ring.cuh"
#include "tensor.cuh"

namespace onelaunch {

// Groups of rows that a stage may hold, and warps of a team (linear.py follows the same rules).
__device__ constexpr int groups_most(int tokens) { return tokens <= 8 ? 1 : 4; }
__device__ constexpr int warps_along(int tokens, int groups) {
  return tokens <= 4 ? 8 : tokens <= 8 || groups > 1 ? 4 : tokens <= 16 ? 2 : 1;
}

namespace detail {

// What a warp multiplies a unit of weights with, for tiles of 16 tokens. `kHalves`: 2 where x is Halves. `kOrdered`: x is
// Ordered; then a load brings what one instruction takes.
template <class W, int kTokens, int kHalves, bool kOrdered>
struct Inputs {
  static constexpr bool kTogether = kTokens <= 8;  // both halves in one tile
  static constexpr int kTiles = (kTokens + 15) / 16, kRows = kTogether ? 1 : 2;
  static constexpr int kWords = kHalves * kTiles * kRows * 2 * Raw<W>::kWords;
  Raw<W> values[2][kHalves][kTiles][kRows];

  // One half of the unit: `x` is its place in the first token's inputs. Zeros where not `inside`. Rows of the tile
  // without a token of their own repeat the last.
  __device__ __forceinline__ void load(int half, const W* x, int pitch, bool inside) {
#pragma unroll
    for (int plane = 0; plane < kHalves; ++plane)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int own = tile * 16 + i * 8 + lane_of_warp() / 4, token = own < kTokens ? own : kTokens - 1;
          Raw<W>& to = values[half][plane][tile][i];
          if (!inside) to.clear();
          else to.load(x + (plane * kTokens + token) * pitch);
        }
  }

  // The rows of one step: elements 4 i to 4 i + 3 of the vectors that multiply `half` of the weights.
  __device__ __forceinline__ Rows16 rows(int half, int i, int plane, int tile) const {
    if constexpr (kOrdered) {
      const uint32_t(&quad)[4] = values[i][0][0][0].words;
      return {{quad[0], quad[2]}, {quad[1], quad[3]}};
    }
    const Raw<W>& low = values[kTogether ? 0 : half][plane][tile][0];
    const Raw<W>& high = values[kTogether ? 1 : half][plane][tile][kRows - 1];
    return {{low.words[2 * i], low.words[2 * i + 1]}, {high.words[2 * i], high.words[2 * i + 1]}};
  }
};

// The sums of one warp for 8 rows of weights, in chains of dependent steps.
template <class W, class Part, int kTokens, int kHalves>
struct Sums {
  static constexpr int kChains = Part::kTiles == 1 ? 4 : 2;
  float parts[kChains][Part::kTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kChains * Part::kTiles * 4; ++i) (&parts[0][0][0])[i] = 0.0f;
  }

  // `weights`: in even rows the first half of the unit and the second, in odd rows the second and the first.
  __device__ __forceinline__ void add(const Raw<W> (&weights)[2], const Part& x) {
    const bool odd = lane_of_warp() / 4 % 2 != 0;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        uint32_t pair[2];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          pair[n] = weights[half].words[2 * i + n];
          if (!Part::kTogether && odd) pair[n] = weights[1 - half].words[2 * i + n];
        }
#pragma unroll
        for (int tile = 0; tile < Part::kTiles; ++tile)
#pragma unroll
          for (int plane = 0; plane < kHalves; ++plane)
            multiply_add(parts[(2 * half + i) % kChains][tile], x.rows(half, i, plane, tile), pair, W{});
      }
  }

  struct alignas(8) Pair {
    float low, high;
  };

  // to[token][row], tokens `pitch` apart, in addition to what is there if `more`.
  __device__ __forceinline__ void store(float* to, int pitch, bool more) const {
    const int token = lane_of_warp() / 4, row = lane_of_warp() % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < Part::kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < (Part::kTogether ? 1 : 2); ++i) {
        const int t = tile * 16 + token + i * 8;
        if (t >= kTokens) continue;
        Pair& pair = *reinterpret_cast<Pair*>(to + t * pitch + row);
        const Pair sum = Part::kTogether ? Pair{total(0, tile, 0) + total(2, tile, 2), total(0, tile, 3) + total(2, tile, 1)}
                                         : Pair{total(0, tile, 2 * i), total(0, tile, 2 * i + 1)};
        const Pair old = more ? pair : Pair{0.0f, 0.0f};
        pair = {old.low + sum.low, old.high + sum.high};
      }
  }

 private:
  __device__ __forceinline__ float total(int chain, int tile, int i) const {
    float sum = parts[chain][tile][i] + parts[chain + 1][tile][i];
    if constexpr (!Part::kTogether && kChains == 4) sum += parts[2][tile][i] + parts[3][tile][i];
    return sum;
  }
};

// The same by plain arithmetic, for types that tensor cores would round.
// Any length of the contraction.
template <class W, int kTokens>
struct PlainSums {
  static constexpr int kStep = kWarps * kHalfUnit;
  float parts[kTokens];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) parts[t] = 0.0f;
  }

  template <class X>
  __device__ __forceinline__ void add(const W* w, int w_pitch, const X* x, int x_pitch, int length) {
    const int row = lane_of_warp() / 4, first = warp_of_block() * kHalfUnit + lane_of_warp() % 4 * kVector;
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

// Columns [0, columns) of every matrix. sums[matrix][warp of kAlong][token][column], tokens `kPitch` apart: the warps' parts,
// in addition to what is there if `more`. x has rows `x_pitch` apart and is of the type of the weights, Ordered
// if `kOrdered`, or Halves of it (`kHalves` 2). All computing warps call it; a barrier must follow before the result is
// read, and one must precede it after the last result was read.
//
// A warp needs the same part of x for all rows of weights: it stays in registers if they hold it.
template <class W, int kTokens, int kMatrices, int kPitch, int kHalves, int kSize, bool kOrdered, class Memory, int kStages>
__device__ __forceinline__ void linear(Stages<kStages>& stages, const W* x, int x_pitch, int columns, float* sums,
                                       bool more = false) {
  using Part = detail::Inputs<W, kTokens, kHalves, kOrdered>;
  constexpr Cut<W, groups_most(kTokens)> cut(kSize);
  constexpr int kGroups = cut.rows / kGroup, kAlong = warps_along(kTokens, kGroups), kTeams = kWarps / kAlong;
  constexpr bool kShares = kGroups > 1;  // teams take the groups of every stage
  constexpr int kStep = kAlong * kUnit;
  constexpr int kUnits = (cut.chunk + kStep - 1) / kStep;  // of a warp, in a chunk
  constexpr int kHeld = Part::kWords <= 16 ? 4 : Part::kWords <= 32 ? 2 : 1;  // so many go to registers at once
  constexpr int kBatch = kUnits < kHeld ? kUnits : kHeld;
  constexpr bool kResident = cut.chunks * kUnits * Part::kWords <= 64;
  constexpr int kKept = kResident ? cut.chunks : 1;
  x = Memory::place(x);
  sums = Shared::place(sums);
  const int along = warp_of_block() % kAlong, team = warp_of_block() / kAlong;
  const int row = lane_of_warp() / 4, first = along * kUnit + lane_of_warp() % 4 * kVector;
  const int swapped = row % 2 * kHalfUnit;
  const auto inside = [&](int c, int unit, int at) {
    if constexpr (kSize % kUnit == 0)  // the same for all lanes
      return (unit + 1) * kStep <= cut.length(cut.chunks - 1, kSize) || along * kUnit + unit * kStep < cut.length(c, kSize);
    return (unit + 1) * kStep <= cut.length(cut.chunks - 1, kSize) || first + at + unit * kStep < cut.length(c, kSize);
  };
  Part own[kKept][kResident ? kUnits : kBatch];
  const auto take = [&](Part& to, int c, int unit) {
    const W* const from = x + c * cut.chunk + along * kUnit + unit * kStep;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = kOrdered ? half * kVector + lane_of_warp() % 4 * 2 * kVector
                              : half * kHalfUnit + lane_of_warp() % 4 * kVector;
      to.load(half, from + at, x_pitch, inside(c, unit, half * kHalfUnit));
    }
  };
  if constexpr (kResident) {
#pragma unroll
    for (int c = 0; c < cut.chunks; ++c)
#pragma unroll
      for (int unit = 0; unit < kUnits; ++unit) take(own[c][unit], c, unit);
  }
  int turn = 0;  // whose team's the next rows are
#pragma unroll 1
  for (int m = 0; m < kMatrices; ++m) {
#pragma unroll 1
    for (int column = 0; column < columns; column += cut.rows) {
      const int begin = column + team * kGroup, end = columns - column < cut.rows ? columns : column + cut.rows;
      const bool mine = kShares ? begin < end : turn == team;
      turn = turn + 1 == kTeams ? 0 : turn + 1;
      if (!mine) {
#pragma unroll 1
        for (int c = 0; c < cut.chunks; ++c) {
          stages.wait();
          stages.release();
        }
        continue;
      }
      const auto eat = [&](int group, bool last) {  // of this team's, in the stage
        detail::Sums<W, Part, kTokens, kHalves> found;
        found.clear();
        const auto add = [&](int c) {
          const W* const stage = Shared::place(reinterpret_cast<const W*>(stages.wait()));
          const W* const rows = stage + (group - column + row) * cut.chunk + first;
          const auto multiply = [&](int batch) {  // all loads before all products
            Raw<W> weights[kBatch][2];
#pragma unroll
            for (int i = 0; i < kBatch; ++i)
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                const int at = half == 0 ? swapped : kHalfUnit - swapped;
                if (batch + i < kUnits)
                  weights[i][half].load_if(rows + at + (batch + i) * kStep, inside(c, batch + i, at));
              }
            if constexpr (!kResident) {
#pragma unroll
              for (int i = 0; i < kBatch; ++i)
                if (batch + i < kUnits) take(own[0][i], c, batch + i);
            }
            if (batch + kBatch >= kUnits && last) stages.release();
#pragma unroll
            for (int i = 0; i < kBatch; ++i)
              if (batch + i < kUnits) found.add(weights[i], own[kResident ? c : 0][kResident ? batch + i : i]);
          };
          if constexpr (kResident) {
#pragma unroll
            for (int batch = 0; batch < kUnits; batch += kBatch) multiply(batch);
          } else {
#pragma unroll 1
            for (int batch = 0; batch < kUnits; batch += kBatch) multiply(batch);
          }
        };
        if constexpr (kResident) {
#pragma unroll
          for (int c = 0; c < cut.chunks; ++c) add(c);
        } else {
#pragma unroll 1
          for (int c = 0; c < cut.chunks; ++c) add(c);
        }
        found.store(sums + (m * kAlong + along) * kTokens * kPitch + group, kPitch, more);
      };
      if constexpr (kShares) {
#pragma unroll 1
        for (int group = begin; group < end; group += kTeams * kGroup) eat(group, group + kTeams * kGroup >= end);
      } else {
        eat(column, true);
      }
    }
  }
}

template <class W, int kTokens, int kMatrices, int kColumns, class Memory, int kStages, class X>
__device__ __forceinline__ void linear_plain(Stages<kStages>& stages, const X* x, int x_pitch, int size, int columns,
                                             float* sums) {
  sums = Shared::place(sums);
  const Cut<W, groups_most(kTokens)> cut(size);
#pragma unroll 1
  for (int m = 0; m < kMatrices; ++m) {
#pragma unroll 1
    for (int column = 0; column < columns; column += cut.rows) {
      const int end = columns - column < cut.rows ? columns : column + cut.rows;
#pragma unroll 1
      for (int group = column; group < end; group += kGroup) {
        detail::PlainSums<W, kTokens> found;
        found.clear();
#pragma unroll 1
        for (int c = 0; c < cut.chunks; ++c) {
          const W* const rows = Shared::place(reinterpret_cast<const W*>(stages.wait())) + (group - column) * cut.chunk;
          found.add(rows, cut.chunk, x + c * cut.chunk, x_pitch, cut.length(c, size));
          if (group + kGroup >= end) stages.release();
        }
        found.store(sums + (m * kWarps + warp_of_block()) * kTokens * kColumns + group, kColumns);
      }
    }
  }
}

}  // namespace onelaunch
