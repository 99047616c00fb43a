// Values that say themselves whether they have been written: fp32 in which the last bit of the mantissa is a flag.
//
// In launch e the flag of a written value is 1 - e mod 2, which no value has that was left by launch e - 1, since every
// launch writes every one of these values once. A reader looks until the flag is right: what it saw last is then the
// value, and nothing needs to be ordered with it. So such a dependency costs one trip to L2 and back, where an event costs
// a fence, a signal, a look at the event and only then the load. (Full/empty bits: Smith, HEP, 1978.) Values lose the
// last bit: 2^-23 of their size.
#pragma once

#include "event.cuh"
#include "team.cuh"

namespace onelaunch {

// What a task has to know in order to wait by itself.
struct Patience {
  const volatile uint32_t* abort_at;  // tasks of this worker from here on have been given up
  uint32_t task;                      // position in the queue
  uint32_t flag;                      // of values that this launch has written

  __device__ __forceinline__ bool given_up() const { return *abort_at <= task; }
};

struct Awaited {
  const float* at;
  Patience patience;

  __device__ __forceinline__ float operator[](int64_t i) const {
    const uint32_t* const word = reinterpret_cast<const uint32_t*>(at + i);
    uint32_t bits = load_relaxed(word);
    while ((bits & 1) != patience.flag && !patience.given_up()) bits = load_relaxed(word);
    return __uint_as_float(bits & ~1u);
  }
  __device__ __forceinline__ Awaited operator+(int64_t i) const { return {at + i, patience}; }
};

struct Announced {
  float* at;
  uint32_t flag;

  struct Place {
    float* at;
    uint32_t flag;
    __device__ __forceinline__ void operator=(float value) const {
      store_relaxed(reinterpret_cast<uint32_t*>(at), (__float_as_uint(value) & ~1u) | flag);
    }
  };
  __device__ __forceinline__ Place operator[](int64_t i) const { return {at + i, flag}; }
  __device__ __forceinline__ Announced operator+(int64_t i) const { return {at + i, flag}; }
};

}  // namespace onelaunch
