// tensor.cuh for the emulator: the lanes of a warp show each other what they hold.
#pragma once

#include "storage.cuh"

namespace onelaunch {

struct Rows16 {
  uint32_t low[2], high[2];
};

template <class W>
inline void multiply_add(float (&sums)[4], const Rows16& x, const uint32_t (&w)[2], W) {
  struct Held {
    W low[4], high[4], weights[4];
  } all[32], own;
  std::memcpy(own.low, x.low, 8);
  std::memcpy(own.high, x.high, 8);
  std::memcpy(own.weights, w, 8);
  emulator::share(own, all);
  const int lane = emulator::world.current->thread.x % 32;
  for (int i = 0; i < 4; ++i) {
    const Held* const token = all + lane / 4 * 4;
    const Held* const row = all + (lane % 4 * 2 + i % 2) * 4;
    for (int q = 0; q < 4; ++q)
      for (int k = 0; k < 4; ++k)
        sums[i] += to_float((i < 2 ? token[q].low : token[q].high)[k]) * to_float(row[q].weights[k]);
  }
}

}  // namespace onelaunch
