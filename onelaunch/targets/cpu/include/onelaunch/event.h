// Events: monotonic 32-bit counters, and the protocol of waiting for them.
//
// A signal is a release increment, a wait an acquire load: what a task wrote before it signalled is visible to whoever
// saw the count that includes it (increments of other tasks continue the release sequence). A counter is never reset
// between launches: launch e of a program waits for e * total + value, compared modulo 2^32, so wrap-around is harmless
// as long as one launch signals an event fewer than 2^31 times.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace onelaunch {

struct alignas(64) Event {  // a cache line each: signalling one must not disturb who polls another
  std::atomic<uint32_t> value{0};
};

inline bool reached(uint32_t value, uint32_t target) { return int32_t(value - target) >= 0; }

inline void signal(Event& event) { event.value.fetch_add(1, std::memory_order_release); }

inline int64_t nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline void relax() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How long a waiting thread keeps its core: `spins` polls, then it offers the core to others between polls, so that a
// machine with more threads than cores still makes progress. The clock is read rarely.
class Patience {
 public:
  Patience(uint32_t spins, int64_t deadline) : spins_(spins), deadline_(deadline) {}

  // One pause; false once the deadline has passed.
  bool pause() {
    if (polls_ < spins_) {
      ++polls_;
      relax();
      return true;
    }
    sched_yield();
    return ++yields_ % kYieldsPerClock != 0 || nanoseconds() < deadline_;
  }

 private:
  static constexpr uint32_t kYieldsPerClock = 64;
  uint32_t spins_, polls_ = 0, yields_ = 0;
  int64_t deadline_;
};

}  // namespace onelaunch
