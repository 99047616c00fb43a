// Products with matrices in the layout [out, in], streamed through the ring: out[t][n] = sum over k of x[t][k] w[n][k].
//
// A stage holds a chunk of 8 rows. All computing warps share it: warp i takes 32 elements of every 256, of all 8 rows, in
// which lane 4 r + q holds 8 neighbouring ones of row r. So a stage is eaten at once however few there are, and what the
// warps hold in the end are parts of the same sums, which the epilogue adds in order: nothing depends on timing.
#pragma once

#include "ring.cuh"
#include "tensor.cuh"

namespace onelaunch {

inline constexpr int kWarpStep = 4 * kVector;  // elements of each row that a warp takes at once
inline constexpr int kBlockStep = kWarps * kWarpStep;

// An input that a 16-bit type cannot hold, as the sum of two that it can: 16 bits of mantissa for bf16. The second half
// lies `distance` elements behind the first.
template <class W>
struct Halves {
  W* at;
  int64_t distance;

  struct Place {
    W* at;
    int64_t distance;
    __device__ __forceinline__ void operator=(float value) const {
      const W half = from_float<W>(value);
      at[0] = half;
      at[distance] = from_float<W>(value - to_float(half));
    }
  };
  __device__ __forceinline__ Place operator[](int64_t i) const { return {at + i, distance}; }
  __device__ __forceinline__ Halves operator+(int64_t i) const { return {at + i, distance}; }
};

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

  // to[token][row], tokens `pitch` apart.
  __device__ __forceinline__ void store(float* to, int pitch) const {
    const int token = lane_of_warp() / 4, row = lane_of_warp() % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < Part::kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = tile * 16 + token + i / 2 * 8;
        float sum = parts[0][tile][i] + parts[1][tile][i];
        if constexpr (Part::kBeside) sum += parts[0][tile][i ^ 2] + parts[1][tile][i ^ 2];
        if (t < kTokens) to[t * pitch + row + i % 2] = sum;
      }
  }
};

// The same by plain arithmetic, for types that tensor cores would round.
// Any length of the contraction.
template <class W, int kTokens>
struct PlainSums {
  float parts[kTokens];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) parts[t] = 0.0f;
  }

  template <class X>
  __device__ __forceinline__ void add(const W* w, int w_pitch, const X* x, int x_pitch, int length) {
    const int row = lane_of_warp() / 4, first = warp_of_block() * kWarpStep + lane_of_warp() % 4 * kVector;
    for (int k = first; k < length; k += kBlockStep) {
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

// Columns [0, columns) of every matrix; `columns` <= kColumns. sums[matrix][warp][token][column]: the warps' parts. x has
// rows `x_pitch` apart and is of the type of the weights, or Halves of it (`kHalves` 2). All computing warps call it; a
// barrier must follow before the result is read, and one must precede it after the last result was read.
//
// A warp needs the same part of x for all rows of weights: it stays in registers if they hold it.
template <class W, int kTokens, int kMatrices, int kColumns, int kHalves, int kSize, class Memory, int kStages>
__device__ __forceinline__ void linear(Stages<kStages>& stages, const W* x, int x_pitch, int columns, float* sums) {
  using Part = detail::Fragment<W, kTokens, kHalves>;
  constexpr Cut<W> cut(kSize);
  constexpr int kSteps = (cut.chunk + kBlockStep - 1) / kBlockStep;
  constexpr bool kResident = cut.chunks * kSteps * Part::kWords <= 64;
  constexpr int kKept = kResident ? cut.chunks : 1;
  Memory::assume(x);
  Shared::assume(sums);
  const int row = lane_of_warp() / 4, first = warp_of_block() * kWarpStep + lane_of_warp() % 4 * kVector;
  const auto inside = [&](int c, int s) {
    return (s + 1) * kBlockStep <= cut.length(c, kSize) || first + s * kBlockStep < cut.length(c, kSize);
  };
  Part own[kKept][kResident ? kSteps : 1];
  const auto take = [&](Part& to, int c, int s) {
    to.load(x + c * cut.chunk + first + s * kBlockStep, x_pitch, inside(c, s));
  };
  if constexpr (kResident) {
#pragma unroll
    for (int c = 0; c < cut.chunks; ++c)
#pragma unroll
      for (int s = 0; s < kSteps; ++s) take(own[c][s], c, s);
  }
#pragma unroll 1
  for (int m = 0; m < kMatrices; ++m) {
#pragma unroll 1
    for (int column = 0; column < columns; column += kRowsOfStage) {
      detail::Sums<W, kTokens, kHalves> found;
      found.clear();
      const auto add = [&](int c) {
        const W* const rows = reinterpret_cast<const W*>(stages.wait());
        Shared::assume(rows);
        Raw<W> weights[kSteps];
#pragma unroll
        for (int s = 0; s < kSteps; ++s) weights[s].load_if(rows + row * cut.chunk + first + s * kBlockStep, inside(c, s));
        stages.release();
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          if constexpr (kResident) {
            found.add(weights[s], own[c][s]);
          } else {
            take(own[0][0], c, s);
            found.add(weights[s], own[0][0]);
          }
        }
      };
      if constexpr (kResident) {
#pragma unroll
        for (int c = 0; c < cut.chunks; ++c) add(c);
      } else {
#pragma unroll 1
        for (int c = 0; c < cut.chunks; ++c) add(c);
      }
      found.store(sums + (m * kWarps + warp_of_block()) * kTokens * kColumns + column, kColumns);
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
