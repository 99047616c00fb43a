// dependent.cuh for the emulator, in which launches do not overlap.
#pragma once

#include "types.cuh"

namespace onelaunch {

inline void let_next_launch_begin() {}
inline void wait_for_launches_before() { emulator::yield(); }

}  // namespace onelaunch
