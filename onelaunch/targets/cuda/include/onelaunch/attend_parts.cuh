// What both ways to attend share: where keys and values lie, the arithmetic of a running softmax, and what a warp leaves
// to be merged. (Online softmax: Milakov and Gimelshein, 2018.)
#pragma once

#include "scalar.cuh"
#include "team.cuh"

namespace onelaunch {

// The keys and values of one head in one piece: element d of position s is at [s * stride + d].
template <class K, class V>
struct Cache {
  using Key = K;
  using Value = V;
  const K* keys;
  int64_t key_stride;
  const V* values;
  int64_t value_stride;

  // Rows begin at multiples of 16 bytes.
  __device__ __forceinline__ bool is_aligned() const {
    return onelaunch::is_aligned(keys, key_stride * int64_t(sizeof(K))) &&
           onelaunch::is_aligned(values, value_stride * int64_t(sizeof(V)));
  }

  __device__ __forceinline__ const K* key(int64_t position) const { return keys + position * key_stride; }
  __device__ __forceinline__ const V* value(int64_t position) const { return values + position * value_stride; }

  // The same from position `first` on, and in each row from elements `key` and `value` on.
  __device__ __forceinline__ Cache from(int64_t first, int key, int value) const {
    return {this->key(first) + key, key_stride, this->value(first) + value, value_stride};
  }
};

// Keys and values whose rows begin where data say: that of position s at [key_row(s)], a multiple of key_grain.
template <class K, class KeyRow, class V, class ValueRow>
struct Pages {
  using Key = K;
  using Value = V;
  const K* keys;
  KeyRow key_row;
  int64_t key_grain;
  const V* values;
  ValueRow value_row;
  int64_t value_grain, first = 0;

  // Rows begin at multiples of 16 bytes.
  __device__ __forceinline__ bool is_aligned() const {
    return onelaunch::is_aligned(keys, key_grain * int64_t(sizeof(K))) &&
           onelaunch::is_aligned(values, value_grain * int64_t(sizeof(V)));
  }

  __device__ __forceinline__ const K* key(int64_t position) const { return keys + key_row(first + position); }
  __device__ __forceinline__ const V* value(int64_t position) const { return values + value_row(first + position); }

  // See Cache.
  __device__ __forceinline__ Pages from(int64_t first, int key, int value) const {
    return {keys + key, key_row, key_grain, values + value, value_row, value_grain, this->first + first};
  }
};
template <class K, class KeyRow, class V, class ValueRow>
Pages(const K*, KeyRow, int64_t, const V*, ValueRow, int64_t) -> Pages<K, KeyRow, V, ValueRow>;

namespace detail {

// For differences to a peak, which are not positive: then 2 to the power of them is as good, and one instruction.
__device__ __forceinline__ float exponential(float x) { return ::exp2f(x * 1.4426950408889634f); }

// What to subtract from scores up to `peak`; -inf - -inf would be NaN.
__device__ __forceinline__ float base_of(float peak) {
  return peak == -float_limits<float>::infinity() ? 0.0f : peak;
}

// Raises `peak` to at least `score`; returns by what to multiply sums of weights made with the old one.
__device__ __forceinline__ float raise(float& peak, float score) {
  const float old = peak;
  peak = Largest()(old, score);
  return exponential(old - base_of(peak));
}

// Of each warp and query: the largest score, the sum of exp(score - peak), and the values weighted with these.
template <int Q, int kValue>
struct WarpParts {
  static constexpr int kFloats = kWarps * Q * (kValue + 2);
  float* memory;

  __device__ __forceinline__ float* values(int warp, int q) const { return memory + (warp * Q + q) * kValue; }
  __device__ __forceinline__ float& peak(int warp, int q) const { return memory[kWarps * Q * kValue + warp * Q + q]; }
  __device__ __forceinline__ float& weight(int warp, int q) const {
    return memory[kWarps * Q * (kValue + 1) + warp * Q + q];
  }
};

}  // namespace detail
}  // namespace onelaunch
