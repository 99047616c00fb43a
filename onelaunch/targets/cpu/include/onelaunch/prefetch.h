// Weights are constant, so they may be asked for before the data they meet: within a task along its rows, and across
// tasks while a worker waits for an event.
#pragma once

#include <cstdint>

namespace onelaunch {

inline constexpr int kLineBytes = 64;

// How much a core asks for ahead of its use, over all that it reads side by side: about latency (150 ns) times one
// core's share of the bandwidth (30 GB/s).
inline constexpr int64_t kPrefetchBytes = 4096;

// What `prefetch` asks for at most: a good part of a small L2, and not so much that it evicts what was asked for first.
inline constexpr int64_t kPrefetchAcross = 128 * 1024;

// Into L2, not L1: on Zen 4, prefetching the stream into L1 ran at 40 % of this speed (measured, bf16, 2 cores).
inline void prefetch_line(const void* address) { __builtin_prefetch(address, 0, 2); }

// Asks for rows [first, first + count) of a matrix, until about `left` bytes are asked for; a hint, which reads nothing
// and cannot fault.
inline void prefetch(const void* base, int64_t stride_bytes, int64_t row_bytes, int64_t first, int64_t count,
                     int64_t left = kPrefetchAcross) {
  const char* row = static_cast<const char*>(base) + first * stride_bytes;
  for (int64_t r = 0; r < count && left > 0; ++r, row += stride_bytes) {
    for (int64_t at = 0; at < row_bytes; at += kLineBytes) prefetch_line(row + at);
    left -= row_bytes;
  }
}

}  // namespace onelaunch
