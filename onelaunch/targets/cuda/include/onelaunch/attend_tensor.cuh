// Attention of up to 8 queries over keys and values of 16 bits by tensor cores, straight from memory to registers.
//
// A tile is 8 positions. Lane 4 r + c holds, of the key at position r, every fourth vector of 16 bytes, from vector c on;
// the sums of products over a head's elements do not mind their order. The scores of query r at positions 2 c and 2 c + 1
// come out in the same lane. Of the values at these two positions it holds every eighth vector, from vector r on, and so
// what the second product wants is where the first has left it (as Dao 2023, "FlashAttention-2", has it).
//
// Tensor cores multiply 16-bit numbers; queries and weights are fp32. Of each there are two halves, what rounding makes of
// it and, rounded again, what rounding took from it: the instruction has room for both, in the eight rows that queries
// leave free and in the eight positions that a tile does. Lost are 2^-16 of a number for bf16, 2^-22 for fp16.
#pragma once

#include "attend_parts.cuh"
#include "tensor.cuh"

namespace onelaunch {
namespace detail {

template <int kKey, int kValue, class K, class V>
inline constexpr bool kFitsTensorCores = sizeof(K) == 2 && sizeof(V) == 2 && kKey % kVector == 0 &&
                                         kValue % kVector == 0 && kKey <= 256 && kValue <= 256;

struct alignas(16) Four {
  float x, y, z, w;
};

// The halves of two numbers, the first in the lower 16 bits.
template <class T>
struct HalvesOfTwo {
  uint32_t rounded, rest;

  __device__ __forceinline__ HalvesOfTwo(float a, float b) {
    rounded = pack<T>(a, b);
    rest = pack<T>(a - to_float(T{uint16_t(rounded)}), b - to_float(T{uint16_t(rounded >> 16)}));
  }
};

template <int Q, int kKey, int kValue, class Where>
struct TensorPass {
  using K = typename Where::Key;
  using V = typename Where::Value;
  static constexpr int kRows = 8, kColumns = 4;  // of lanes
  static constexpr int kTile = 2 * kColumns;     // positions that a warp takes at once
  static constexpr int kRow = kWarps * kTile;    // and all warps
  static constexpr int kWords = kVector / 2;     // of a vector
  static constexpr int kKeyVectors = (kKey + kColumns * kVector - 1) / (kColumns * kVector);
  static constexpr int kValueVectors = (kValue + kRows * kVector - 1) / (kRows * kVector);
  static constexpr int kVectors = kKeyVectors + 2 * kValueVectors;  // of a tile, in each lane
  static constexpr int kTiles = kVectors < 8 ? 8 / kVectors : 1;    // of a step: 32 registers of keys and values
  static constexpr int kStep = kTiles * kRow;
  static constexpr int kAhead = 1 + 65536 / (kStep * (kKey + kValue) * 2);  // steps: see prefetch()
  static constexpr bool kNarrow = kKey <= 128 && kValue <= 128;  // registers hold queries and what comes next
  static_assert(Q <= kRows, "queries are rows of lanes");

  int64_t begin;
  int count, row, column, query;  // rows without a query of their own repeat the last
  Where cache;                    // this lane's part of the keys and of the values, from the first on
  Raw<K> keys[kTiles][kKeyVectors];
  Raw<V> values[kTiles][2][kValueVectors];
  Rows16 held[kNarrow ? kKeyVectors : 1][kWords / 2];
  float out[kValueVectors][kWords][4] = {};  // elements 2 i and 2 i + 1 of a vector, each of queries 2 c and 2 c + 1
  float peak = -float_limits<float>::infinity(), weight = 0.0f;  // of query r; the weight of this lane's positions

  __device__ __forceinline__ TensorPass(const Where& all, int64_t begin, int64_t end)
      : begin(begin), count(end > begin ? int(end - begin) : 0), row(lane_of_warp() / kColumns),
        column(lane_of_warp() % kColumns), query(row < Q ? row : Q - 1),
        cache(all.from(begin, column * kVector, row * kVector)) {}

  // Has the first keys and values brought to L2. Not to registers yet: what is computed before run() needs these.
  __device__ __forceinline__ void announce() const {
#pragma unroll 1
    for (int n = 0; n < kAhead; ++n) prefetch(first() + n * kStep);
  }

  // Asks for the first keys and values.
  __device__ __forceinline__ void fetch() {
    fetch_keys(first());
    if constexpr (kNarrow) fetch_values(first());
  }

  // `fetch` has been called.
  template <class Score>
  __device__ __forceinline__ void run(const float* queries, const Score& score) {
    if constexpr (kNarrow) {  // now, while keys are still on their way
#pragma unroll
      for (int v = 0; v < kKeyVectors; ++v)
#pragma unroll
        for (int w = 0; w < kWords / 2; ++w) held[v][w] = load_query(queries, v, w);
    }
    for (int at = first(); at < count; at += kStep) {
      if (has_many(at)) take<kTiles>(at, queries, score);
      else take<1>(at, queries, score);
    }
  }

  // After all positions of the warp: one more, see newest.cuh.
  template <class Newest, class Score>
  __device__ __forceinline__ void add(const Newest& newest, const float* queries, const Score& score) {
    newest.template bring<kKey, kValue>();
    float dot = 0.0f;
#pragma unroll
    for (int v = 0; v < kKeyVectors; ++v) {
      const int d = (v * kColumns + column) * kVector;
      if ((v + 1) * kColumns * kVector > kKey && d >= kKey) continue;
      float elements[kVector];
      decode(elements, newest.key + d);
#pragma unroll
      for (int i = 0; i < kVector; ++i) dot = fmaf(queries[query * kKey + d + i], elements[i], dot);
    }
#pragma unroll
    for (int distance = 1; distance < kColumns; distance *= 2) dot += exchange(dot, distance);
    const float found = score(query, newest.at, dot);
    rescale(found);
    const float own = exponential(found - base_of(peak));
    weight += column == 0 ? own : 0.0f;
    float theirs[2];  // of queries 2 c and 2 c + 1
#pragma unroll
    for (int i = 0; i < 2; ++i) theirs[i] = __shfl_sync(~0u, own, (2 * column + i) * kColumns);
#pragma unroll
    for (int v = 0; v < kValueVectors; ++v) {
      const int d = (v * kRows + row) * kVector;
      if ((v + 1) * kRows * kVector > kValue && d >= kValue) continue;
      float elements[kVector];
      decode(elements, newest.value + d);
#pragma unroll
      for (int w = 0; w < kWords; ++w)
#pragma unroll
        for (int i = 0; i < 4; ++i)  // a value that weighs nothing may be anything
          if (theirs[i % 2] != 0.0f) out[v][w][i] = fmaf(theirs[i % 2], elements[2 * w + i / 2], out[v][w][i]);
    }
  }

  // What the warp has found.
  __device__ __forceinline__ void store(const WarpParts<Q, kValue>& parts) const {
    const int warp = warp_of_block();
    float sum = weight;
#pragma unroll
    for (int distance = 1; distance < kColumns; distance *= 2) sum += exchange(sum, distance);
    if (row < Q && column == 0) parts.peak(warp, row) = peak, parts.weight(warp, row) = sum;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int q = 2 * column + i;
#pragma unroll
      for (int v = 0; v < kValueVectors; ++v) {
        const int d = (v * kRows + row) * kVector;
        if (q >= Q || d >= kValue) continue;
#pragma unroll
        for (int w = 0; w < kWords; w += 2)
          *reinterpret_cast<Four*>(parts.values(warp, q) + d + 2 * w) = {
              out[v][w][i], out[v][w][i + 2], out[v][w + 1][i], out[v][w + 1][i + 2]};
      }
    }
  }

 private:
  template <class T>
  static __device__ __forceinline__ void decode(float (&elements)[kVector], const T* from) {
    Raw<T> raw;
    raw.load(from);
    raw.decode(elements);
  }

  static __device__ __forceinline__ int first() { return warp_of_block() * kTile; }

  // The step that begins at `at` has more than one tile.
  __device__ __forceinline__ bool has_many(int at) const { return kTiles == 1 || count - at > kRow; }

  // Beyond the end the last position stands in: it is there, and weighs nothing.
  __device__ __forceinline__ int64_t position(int at) const { return at < count ? at : count - 1; }

  __device__ __forceinline__ void fetch_keys(int at) {
    if (at >= count) return;
    const int tiles = has_many(at) ? kTiles : 1;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      if (n >= tiles) break;
      const K* const from = cache.key(position(at + n * kRow + row));
#pragma unroll
      for (int v = 0; v < kKeyVectors; ++v) load_vector<kKey, kColumns>(keys[n][v], from, v, column);
    }
  }
  __device__ __forceinline__ void fetch_values(int at) {
    if (at >= count) return;
    const int tiles = has_many(at) ? kTiles : 1;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      if (n >= tiles) break;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const V* const from = cache.value(position(at + n * kRow + 2 * column + i));
#pragma unroll
        for (int v = 0; v < kValueVectors; ++v) load_vector<kValue, kRows>(values[n][i][v], from, v, row);
      }
    }
  }

  // Vector v of those that `lane` of `kLanesOfRow` holds of a row.
  template <int kSize, int kLanesOfRow, class T>
  static __device__ __forceinline__ void load_vector(Raw<T>& raw, const T* from, int v, int lane) {
    if ((v + 1) * kLanesOfRow * kVector <= kSize || (v * kLanesOfRow + lane) * kVector < kSize)
      raw.load(from + v * kLanesOfRow * kVector);
    else
      raw.clear();
  }

  // Brings the keys and values of the step at `at` into L2, a line a lane. What is in registers and on its way there does
  // not bridge the latency of memory; together with 64 KB a block on its way to L2 it does.
  __device__ __forceinline__ void prefetch(int at) const {
    if (at >= count) return;
    constexpr int kLine = 64, kKeyLines = (kKey + kLine - 1) / kLine, kValueLines = (kValue + kLine - 1) / kLine;
    constexpr int kLines = kKeyLines + kValueLines;
#pragma unroll
    for (int i = 0; i < kTiles * kTile * kLines; i += kLanes) {
      const int n = i + lane_of_warp(), line = n % kLines, tile = n / kLines / kTile;
      const int64_t place = position(at + tile * kRow + n / kLines % kTile);
      if (tile >= kTiles) break;
      if (line < kKeyLines) prefetch_line(cache.key(place) - column * kVector + line * kLine);
      else prefetch_line(cache.value(place) - row * kVector + (line - kKeyLines) * kLine);
    }
  }

  // Takes `kCount` tiles, and asks for the next.
  template <int kCount, class Score>
  __device__ __forceinline__ void take(int at, const float* queries, const Score& score) {
    float scores[kCount][2];
    multiply_keys<kCount>(queries, scores);
    if constexpr (kNarrow) fetch_keys(at + kStep);
    else fetch_values(at);
    float top = -float_limits<float>::infinity();
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int place = at + n * kRow + 2 * column + i;
        float& s = scores[n][i];
        s = place < count ? score(query, begin + place, s) : -float_limits<float>::infinity();
        top = Largest()(top, s);
      }
#pragma unroll
    for (int distance = 1; distance < kColumns; distance *= 2) top = Largest()(top, exchange(top, distance));
    rescale(top);
    weigh<kCount>(scores);
    multiply_values<kCount>(scores);
    if constexpr (kNarrow) fetch_values(at + kStep);
    else fetch_keys(at + kStep);
    prefetch(at + kAhead * kStep);
  }

  // Four elements of this row's query, in halves; zeros beyond its end.
  __device__ __forceinline__ Rows16 load_query(const float* queries, int v, int w) const {
    const int d = (v * kColumns + column) * kVector + 4 * w;
    const bool there = (v + 1) * kColumns * kVector <= kKey || d < kKey;
    const Four x = there ? *reinterpret_cast<const Four*>(queries + query * kKey + d) : Four{};
    const HalvesOfTwo<K> a(x.x, x.y), b(x.z, x.w);
    return {{a.rounded, b.rounded}, {a.rest, b.rest}};
  }

  // scores[n][i] = query . key
  template <int kCount>
  __device__ __forceinline__ void multiply_keys(const float* queries, float (&scores)[kCount][2]) const {
    float sums[kCount][2][4] = {};  // two, or one product would wait for the other
#pragma unroll
    for (int v = 0; v < kKeyVectors; ++v) {
      if constexpr (!kNarrow) __syncwarp();  // or the compiler would load many at once, and hold them
#pragma unroll
      for (int w = 0; w < kWords / 2; ++w) {
        const Rows16 both = kNarrow ? held[kNarrow ? v : 0][w] : load_query(queries, v, w);
#pragma unroll
        for (int n = 0; n < kCount; ++n)
          multiply_add(sums[n][w], both, {keys[n][v].words[2 * w], keys[n][v].words[2 * w + 1]}, K{});
      }
    }
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) scores[n][i] = (sums[n][0][i] + sums[n][1][i]) + (sums[n][0][i + 2] + sums[n][1][i + 2]);
  }

  // Makes room for scores of query r up to `top`. Sums are of queries 2 c and 2 c + 1.
  __device__ __forceinline__ void rescale(float top) {
    const bool fresh = peak == -float_limits<float>::infinity();  // then there is nothing to rescale
    const float factor = raise(peak, top);
    weight *= factor;
    if (__all_sync(~0u, fresh || factor == 1.0f)) return;
    float factors[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) factors[i] = __shfl_sync(~0u, factor, (2 * column + i) * kColumns);
#pragma unroll
    for (int v = 0; v < kValueVectors; ++v)
#pragma unroll
      for (int w = 0; w < kWords; ++w)
#pragma unroll
        for (int i = 0; i < 4; ++i) out[v][w][i] *= factors[i % 2];
  }

  // Scores become weights.
  template <int kCount>
  __device__ __forceinline__ void weigh(float (&scores)[kCount][2]) {
    const float base = base_of(peak);
    bool all = true;
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scores[n][i] = exponential(scores[n][i] - base);
        weight += scores[n][i];
        all &= scores[n][i] != 0.0f;
      }
    if (!__all_sync(~0u, all)) clear_weightless<kCount>(scores);
  }

  // Clears values that no query gives any weight: memory at a masked position may hold anything, and 0 * NaN must not get
  // in.
  template <int kCount>
  __device__ __forceinline__ void clear_weightless(const float (&weights)[kCount][2]) {
    uint32_t weighty = 0;
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) weighty |= uint32_t(weights[n][i] != 0.0f) << (2 * n + i);
#pragma unroll
    for (int distance = kColumns; distance < kLanes; distance *= 2) weighty |= exchange(weighty, distance);
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int v = 0; v < kValueVectors; ++v)
          if ((weighty >> (2 * n + i) & 1) == 0) values[n][i][v].clear();
  }

  // out += weights . values
  template <int kCount>
  __device__ __forceinline__ void multiply_values(const float (&weights)[kCount][2]) {
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const HalvesOfTwo<V> both(weights[n][0], weights[n][1]);
#pragma unroll
      for (int v = 0; v < kValueVectors; ++v)
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
          const uint32_t one = values[n][0][v].words[w], other = values[n][1][v].words[w];
          const uint32_t low = (one & 0xFFFF) | other << 16, high = one >> 16 | (other & 0xFFFF0000);
          multiply_add(out[v][w], {{low, low}, {high, high}}, {both.rounded, both.rest}, V{});
        }
    }
  }
};

}  // namespace detail
}  // namespace onelaunch
