// One op as an ordinary launch, one task a block: the other lowering of a program, in which the stream orders what events
// order in one launch (engine.cuh, whose roles do the work here, too).
//
// A block reads what nobody writes in the program (its record, weights) at once, while the op before it may still run. What
// it reads besides has a flag, and is looked for as it comes, or is read after the ops before have ended: the keeper waits
// for them, in the poller's place. It does so in every block of every op, so that an op has never ended before those that
// precede it. The first op does not overlap what precedes it in the stream, so all ops of one launch see one epoch; the
// last one advances it.
//
// Nobody waits for a block that has not begun: an op begins when all blocks of the one before have.
#pragma once

#include "dependent.cuh"
#include "engine.cuh"

namespace onelaunch {

inline constexpr int kKeeper = kWarps + 1;  // the number of this warp; the producer's is as ever
inline constexpr int kOpBlock = (kWarps + 2) * kLanes;

// Approves the block's task when the ops before have ended, unless one of them has given up, fetches its inputs, and sees
// it through.
template <class Kernel, class Shape>
__device__ __forceinline__ void keep(const LaunchOf<Shape>& launch, Block<Shape>& block, char* slots) {
  if (lane_of_warp() == 0) {
    wait_for_launches_before();
    if (load_relaxed(&launch.control->abort) != 0) atomicMin(&block.abort_at, 0u);
    arrive(block.approved[0]);
  }
  __syncwarp();
  if (Kernel::kFetches) fetch<Kernel>(launch, block, slots, 1);
  if (launch.stamps == nullptr || lane_of_warp() != 0) return;
  wait(block.loaded[0], 0);
  if (wait_unless_aborted(block, block.done[0], 0, 0)) launch.stamps[block.records[0].number].signalled = now();
}

// Memory of a block: itself, then the kernel's own, then slots for inputs, if it fetches any, then the ring, if it streams
// anything.
template <class Kernel, class Shape>
__device__ __forceinline__ void work_on_op(const LaunchOf<Shape>& launch) {
  constexpr uint32_t kAlignment = 128, kBytes = (sizeof(Block<Shape>) + kAlignment - 1) / kAlignment * kAlignment;
  Block<Shape>& block = *reinterpret_cast<Block<Shape>*>(shared_memory());
  char* const shared = shared_memory() + kBytes;
  char* const slots = shared + Kernel::kShared;
  char* const ring = slots + (Kernel::kFetches ? Shape::kSlots * Shape::kSlotBytes : 0);
  let_next_launch_begin();
  if (threadIdx.x == 0) prepare(launch, block);
  __syncthreads();
  const int warp = warp_of_block();
  if (warp < kWarps)
    compute<Kernel>(launch, block, ring, slots, shared, 1);
  else if (warp == kProducer)
    produce<Kernel>(launch, block, ring, blockIdx.x, 1);
  else
    keep<Kernel>(launch, block, slots);
  __syncthreads();
  if (launch.last) leave<kOpBlock>(launch, block);
}

}  // namespace onelaunch
