// storage.cuh for the emulator: bf16 alone is exact, which is what its tests use.
#pragma once

namespace onelaunch {

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;

#define INT64_C(value) value##LL
#define INT64_MIN (-INT64_C(9223372036854775807) - 1)

struct bf16 {
  uint16_t bits;
};
struct fp16 {
  uint16_t bits;
};
inline float to_float(float value) { return value; }
inline float to_float(bf16 value) { return __uint_as_float(uint32_t(value.bits) << 16); }
inline float to_float(fp16) { std::abort(); }
template <class To>
inline To from_float(float value);
template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline bf16 from_float<bf16>(float value) {
  const uint32_t bits = __float_as_uint(value);
  return {uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
template <>
inline fp16 from_float<fp16>(float) {
  std::abort();
}

template <class To>
inline uint32_t pack(float low, float high) {
  return from_float<To>(low).bits | uint32_t(from_float<To>(high).bits) << 16;
}

}  // namespace onelaunch
