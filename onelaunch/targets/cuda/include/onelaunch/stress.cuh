// Random delays at waits and signals: a build that meets orders which ordinary runs do not.
//
// Compiled in where ONELAUNCH_STRESS is defined (tests/cuda/stress.py); otherwise nothing is left of it.
#pragma once

#include "types.cuh"

namespace onelaunch {

__device__ __forceinline__ void jitter() {
#ifdef ONELAUNCH_STRESS
  uint32_t time, processor;
  asm volatile("mov.u32 %0, %clock;" : "=r"(time));
  asm volatile("mov.u32 %0, %smid;" : "=r"(processor));
  uint32_t x = (time ^ processor * 0x9e3779b9u ^ threadIdx.x * 0x85ebca6bu) * 0x2c1b3c6du;
  x = (x ^ x >> 15) * 0x297a2d39u;
  if ((x >> 8 & 7) == 0) __nanosleep(x >> 20);  // one of eight, up to 4 us
#endif
}

}  // namespace onelaunch
