// Storage types and their exact conversions to and from fp32.
//
// Everything is computed in fp32; bf16 and fp16 exist only in memory. The conversions are branch-free integer and fp32
// arithmetic, so that a loop of them vectorises on any machine, with or without F16C. Rounding is to nearest, ties to
// even; NaN stays NaN (quiet), infinities and subnormals are exact.
#pragma once

#include <cstdint>
#include <cstring>

namespace onelaunch {

struct bf16 {
  uint16_t bits;
};
struct fp16 {
  uint16_t bits;
};
static_assert(sizeof(bf16) == 2 && sizeof(fp16) == 2, "storage types have no padding");

template <class To, class From>
inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

inline float to_float(float value) { return value; }

inline float to_float(bf16 value) { return bit_cast<float>(uint32_t(value.bits) << 16); }

// Normal numbers: the exponent is rebiased by a multiplication, which also leaves infinity and NaN in place
// (0x1p-112 scales 2^128.. down only for exponents that the first addition pushed to the top). Subnormals: the bits are
// placed in the mantissa of 0.5 and the 0.5 is subtracted.
inline float to_float(fp16 value) {
  const uint32_t wide = uint32_t(value.bits) << 16;
  const uint32_t sign = wide & 0x80000000u;
  const uint32_t twice = wide + wide;
  const float normal = bit_cast<float>((twice >> 4) + (0xE0u << 23)) * 0x1.0p-112f;
  const float subnormal = bit_cast<float>((twice >> 17) | (126u << 23)) - 0.5f;
  const uint32_t magnitude =
      twice < (1u << 27) ? bit_cast<uint32_t>(subnormal) : bit_cast<uint32_t>(normal);
  return bit_cast<float>(sign | magnitude);
}

template <class To>
inline To from_float(float value);

template <>
inline float from_float<float>(float value) {
  return value;
}

template <>
inline bf16 from_float<bf16>(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return bf16{uint16_t((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded)};
}

// The rounding is done by the fp32 adder: `base` has the ulp of the result's exponent, so adding the value to it drops
// exactly the bits that an fp16 cannot hold, ties to even. The two scalings saturate what is too large to infinity.
template <>
inline fp16 from_float<fp16>(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t twice = bits + bits;
  const float scaled = (bit_cast<float>(bits & 0x7FFFFFFFu) * 0x1.0p+112f) * 0x1.0p-110f;
  const uint32_t exponent = twice & 0xFF000000u;
  const uint32_t bias = exponent < 0x71000000u ? 0x71000000u : exponent;
  const uint32_t base = bit_cast<uint32_t>(bit_cast<float>((bias >> 1) + 0x07800000u) + scaled);
  const uint32_t magnitude = ((base >> 13) & 0x7C00u) + (base & 0x0FFFu);
  return fp16{uint16_t(sign | (twice > 0xFF000000u ? 0x7E00u : magnitude))};
}

}  // namespace onelaunch
