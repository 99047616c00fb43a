// Launches of a stream that overlap (programmatic dependent launch): the next one may begin when every block of this one
// has said so or has ended, and waits by itself before it touches what those before it write.
#pragma once

#include "types.cuh"

namespace onelaunch {

__device__ __forceinline__ void let_next_launch_begin() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// The launches before this one have ended, and this one sees all that they wrote. At once where it did not overlap them.
__device__ __forceinline__ void wait_for_launches_before() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace onelaunch
