// event.cuh for the emulator: one thread runs at a time, so memory is in order; a clock counts steps of the scheduler.
#pragma once

#include "types.cuh"

namespace onelaunch {

inline uint32_t load_acquire(const uint32_t* from) {
  emulator::yield();
  return *from;
}
inline uint32_t load_relaxed(const uint32_t* from) {
  emulator::yield();
  return *from;
}
inline Quad load_relaxed(const Quad* from) {
  emulator::yield();
  return *from;
}
inline void store_relaxed(uint32_t* to, uint32_t value) { *to = value; }
inline void add_relaxed(uint32_t* to) { ++*to; }
inline void fence_gpu() { emulator::yield(); }
inline void fence_system() {}
inline bool reached(uint32_t count, uint32_t target) { return int32_t(count - target) >= 0; }
inline int64_t now() {
  static int64_t time = 0;
  return time += 1000;
}

}  // namespace onelaunch
