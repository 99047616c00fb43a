// One vector of fp32 lanes, as wide as the machine's registers, through the compiler's vector extensions.
//
// The few intrinsics are for what the extensions cannot say: a fused multiply-add that is fused always (GCC leaves FMA
// out of some reduction loops when it tunes for Zen, and a result must not depend on which loop computed it), and the
// fp16 conversion instruction.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "types.h"

#if defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace onelaunch {

#if defined(__AVX512F__)
inline constexpr int kVecBytes = 64;
inline constexpr int kVecRegisters = 32;
#elif defined(__AVX2__)
inline constexpr int kVecBytes = 32;
inline constexpr int kVecRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kVecBytes = 16;
inline constexpr int kVecRegisters = 32;
#else
inline constexpr int kVecBytes = 16;
inline constexpr int kVecRegisters = 16;
#endif
inline constexpr int kLanes = kVecBytes / 4;

typedef float floatv __attribute__((vector_size(kVecBytes)));
typedef int32_t int32v __attribute__((vector_size(kVecBytes)));
typedef uint32_t uint32v __attribute__((vector_size(kVecBytes)));

template <class V = floatv, class T>
inline V load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof(V));
  return value;
}

inline void store(float* to, floatv value) { std::memcpy(to, &value, sizeof(value)); }

inline floatv splat(float value) { return value - floatv{}; }

inline floatv as_float(uint32v bits) { return (floatv)bits; }

// a*b + c, rounded once wherever the machine can; the scalar form gives the same bits as one lane of the vector form.
inline floatv fma(floatv a, floatv b, floatv c) {
#if defined(__AVX512F__)
  return (floatv)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (floatv)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return (floatv)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

inline float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// Lane i of the result is lane index[i] of `a`, or lane index[i] - kLanes of `b`.
template <int... index>
inline floatv shuffle(floatv a, floatv b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, index...);
#else
  return __builtin_shuffle(a, b, int32v{index...});
#endif
}

namespace detail {
template <int distance, class F, int... lane>
inline floatv exchange(floatv value, F combine, std::integer_sequence<int, lane...>) {
  return combine(value, shuffle<(lane ^ distance)...>(value, value));
}
template <int distance, int... lane>
inline floatv merge(floatv a, floatv b, std::integer_sequence<int, lane...>) {
  return shuffle<(lane & distance ? lane + kLanes : lane)...>(a, b) +
         shuffle<(lane & distance ? (lane ^ distance) + kLanes : lane ^ distance)...>(a, b);
}
template <int distance, class F>
inline floatv butterfly(floatv value, F combine) {
  if constexpr (distance == 0) {
    return value;
  } else {
    value = exchange<distance>(value, combine, std::make_integer_sequence<int, kLanes>());
    return butterfly<distance / 2>(value, combine);
  }
}
template <int N, int distance>
inline floatv fold_each(const floatv* values) {
  if constexpr (N == 1) {
    return butterfly<distance>(values[0], [](floatv a, floatv b) { return a + b; });
  } else {
    floatv merged[N / 2];
    for (int i = 0; i < N / 2; ++i)
      merged[i] = merge<distance>(values[i], values[i + N / 2], std::make_integer_sequence<int, kLanes>());
    return fold_each<N / 2, distance / 2>(merged);
  }
}
}  // namespace detail

// The sum of the lanes, always in the same order: halves folded onto each other until one lane is left.
inline float sum(floatv value) {
  return detail::butterfly<kLanes / 2>(value, [](floatv a, floatv b) { return a + b; })[0];
}

// N sums at once for fewer shuffles, each with the bits of sum(values[i]); sum i is in lane i * (kLanes / N). N is a
// power of two, at most kLanes.
template <int N>
inline floatv sum_each(const floatv* values) {
  return detail::fold_each<N, kLanes / 2>(values);
}

inline float max(floatv value) {
  return detail::butterfly<kLanes / 2>(value, [](floatv a, floatv b) { return a > b ? a : b; })[0];
}

// Two vectors from 2 * kLanes stored elements. `first` and `second` may hold the elements in any fixed arrangement:
// position(i) tells where element i lands, and everything multiplied with them (see linear.h) is prepared to match.
struct Pair {
  floatv first, second;
};

template <class W>
struct Decode;

// Even elements, then odd ones: a bf16 is the upper half of an fp32, so a shift and a mask decode it.
template <>
struct Decode<bf16> {
  static constexpr int position(int i) { return (i % 2) * kLanes + i / 2; }
  static Pair load(const bf16* from) {
    const uint32v bits = onelaunch::load<uint32v>(from);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return {as_float(bits << 16), as_float(bits & 0xFFFF0000u)};
#else
    return {as_float(bits & 0xFFFF0000u), as_float(bits << 16)};
#endif
  }
};

template <>
struct Decode<float> {
  static constexpr int position(int i) { return i; }
  static Pair load(const float* from) {
    return {onelaunch::load(from), onelaunch::load(from + kLanes)};
  }
};

template <>
struct Decode<fp16> {
  static constexpr int position(int i) { return i; }
  static Pair load(const fp16* from) { return {half(from), half(from + kLanes)}; }

 private:
  static floatv half(const fp16* from) {
#if defined(__AVX512F__)
    return (floatv)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__AVX2__) && defined(__F16C__)
    return (floatv)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
#elif defined(__ARM_NEON) && defined(__aarch64__)
    return (floatv)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)from)));
#else
    floatv value;
    for (int i = 0; i < kLanes; ++i) value[i] = to_float(from[i]);
    return value;
#endif
  }
};

}  // namespace onelaunch
