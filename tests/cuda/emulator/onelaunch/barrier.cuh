// barrier.cuh for the emulator: the same functions over a model of mbarrier and of a copy engine that takes its time.
#pragma once

#include "types.cuh"

namespace onelaunch {

using Barrier = uint64_t;

struct State {
  int32_t bytes;
  uint8_t expected, pending;
  uint16_t phase;
};
static_assert(sizeof(State) == sizeof(Barrier));

inline State& state(Barrier& barrier) { return reinterpret_cast<State&>(barrier); }
inline void settle(State& s) {
  if (s.pending == 0 && s.bytes == 0) ++s.phase, s.pending = s.expected;
}

inline void sync_block() { emulator::meet(emulator::world.current->block->computing); }
template <int kRegisters>
inline void give_registers() {}
template <int kRegisters>
inline void take_registers() {}
inline char* shared_memory() { return emulator::world.current->block->memory.get(); }
inline void init(Barrier& barrier, uint32_t arrivals) {
  state(barrier) = {0, uint8_t(arrivals), uint8_t(arrivals), 0};
}
inline void fence_init() {}
inline void arrive(Barrier& barrier) {
  State& s = state(barrier);
  if (s.pending-- == 0) std::fprintf(stderr, "more arrivals than a phase has\n"), std::abort();
  settle(s);
  emulator::yield();
}
inline void arrive_expecting(Barrier& barrier, uint32_t bytes) {
  state(barrier).bytes += int32_t(bytes);
  arrive(barrier);
}
inline bool test_wait(Barrier& barrier, uint32_t parity) {
  emulator::yield();
  return state(barrier).phase % 2 != parity;
}
inline bool try_wait(Barrier& barrier, uint32_t parity) { return test_wait(barrier, parity); }
inline void wait(Barrier& barrier, uint32_t parity) {
  while (!try_wait(barrier, parity)) {
  }
}
inline bool elect_lane() {
  emulator::yield();
  return emulator::world.current->thread.x % 32 == 0;
}
inline void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier& barrier) {
  if ((uint64_t(to) | uint64_t(from) | bytes) % 16) std::fprintf(stderr, "a copy that is not aligned\n"), std::abort();
  emulator::world.copies.push_back({to, from, bytes, &barrier});
}
inline void copy_async(Quad* to, const Quad* from) { *to = *from; }
inline void wait_for_copies() {}
inline void prefetch_line(const void*) {}
inline void fence_proxy_shared() {}
inline void fence_proxy_global() {}

}  // namespace onelaunch
