// dependent.cuh for the emulator.
#pragma once

#include "types.cuh"

namespace onelaunch {

inline void let_next_launch_begin() {
  emulator::Block& block = *emulator::world.current->block;
  if (!block.said) block.said = true, ++block.grid->saying;
  emulator::yield();
}
inline void wait_for_launches_before() {
  const emulator::Grid* const own = emulator::world.current->block->grid;
  do emulator::yield();
  while (own != emulator::world.grids && own[-1].running != 0);  // the one before alone: those before it are its business
}

}  // namespace onelaunch
