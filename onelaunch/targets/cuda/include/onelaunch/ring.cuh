// The ring of stages: what the producer has asked the copy engine for, and the computing warps have not yet used.
//
// Item i (counted over the launch) lies in stage i mod kStages. Producer and consumers derive the same items from the
// same task, so nothing but the barriers passes between them. Every computing warp goes through all items in order and
// releases each: a barrier tells two uses of a stage apart by one bit, so nobody may be two uses ahead of, or behind,
// anybody else. The protocol is that of docs/protocols.md; how many bytes may be on their way is bounded apart from how
// many may have arrived, because bytes on their way delay everyone else's loads and signals.
#pragma once

#include "barrier.cuh"
#include "team.cuh"

namespace onelaunch {

inline constexpr int kStageBytes = 16384;
inline constexpr int kRowsOfStage = 8;       // rows of a matrix in one stage: 8 lanes issue one copy each
inline constexpr int kRecords = 16;          // tasks whose records a block holds: how far its roles may lie apart
inline constexpr int kInFlight = 48 * 1024;  // bytes, measured on an H200: less starves, more delays signals

// The barriers of a ring, in shared memory. `full`: the producer arrives once and announces the bytes of its copies.
// `empty`: lane 0 of each computing warp arrives, when the warp has read its part of the stage.
template <int kStages>
struct RingBarriers {
  Barrier full[kStages], empty[kStages];
  uint32_t bytes[kStages];  // of each stage's item; the producer's own

  __device__ void init_all() {
    for (int i = 0; i < kStages; ++i) {
      init(full[i], 1);
      init(empty[i], kWarps);
    }
  }
};

// How the rows of a matrix are cut along the contraction, so that kRowsOfStage of them fit a stage.
template <class W>
struct Cut {
  static constexpr int kMost = kStageBytes / kRowsOfStage / int(sizeof(W));
  static constexpr int kGrain = 64;  // elements; every chunk but the last is a multiple
  int chunks, chunk;

  __device__ __forceinline__ constexpr explicit Cut(int size) : chunks(0), chunk(0) {
    chunks = (size + kMost - 1) / kMost;
    const int even = chunks == 0 ? 0 : (size + chunks - 1) / chunks;
    chunk = (even + kGrain - 1) / kGrain * kGrain;
    chunks = chunk == 0 ? 0 : (size + chunk - 1) / chunk;  // rounding may have made the last one empty
  }

  __device__ __forceinline__ constexpr int length(int number, int size) const {
    return number + 1 < chunks ? chunk : size - number * chunk;
  }
};

// A consumer's side: one for each computing warp, all of which step through the same items. After an abort its waits are
// over at once, and what is in the stages means nothing.
template <int kStages>
struct Stages {
  char* memory;
  RingBarriers<kStages>* barriers;
  const volatile uint32_t* abort_at;
  uint32_t task = 0;               // position in the queue
  uint32_t stage = 0, parity = 0;  // of the next item

  // The stage of the next item, when it has arrived. The warp has released all items before it.
  __device__ __forceinline__ const char* wait() const {
    while (!try_wait(barriers->full[stage], parity))
      if (*abort_at <= task) break;
    return memory + stage * kStageBytes;
  }

  // The warp needs it no more.
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (lane_of_warp() == 0) arrive(barriers->empty[stage]);
    const bool last = stage + 1 == kStages;
    stage = last ? 0 : stage + 1;
    parity ^= last;
  }
};

// The producer's side: one warp, all lanes of which run it together.
template <int kStages>
struct Producer {
  char* memory;
  RingBarriers<kStages>* barriers;
  Barrier* approved;                  // [kRecords]: tasks whose events have been reached
  const volatile uint32_t* abort_at;  // tasks of this worker from here on will not run
  uint32_t task = 0;                  // position in the queue
  uint32_t head = 0, tail = 0;        // items issued, items known to have arrived
  uint32_t in_flight = 0;             // bytes of the items between
  bool stopped = false;

  // Streams rows [0, columns) of each matrix, 8 at a time, chunk by chunk.
  template <class W, int kMatrices>
  __device__ __noinline__ void rows(const W* const (&matrices)[kMatrices], int64_t pitch, int size, int columns) {
    const Cut<W> cut(size);
#pragma unroll 1
    for (int m = 0; m < kMatrices; ++m) {
      const W* from = matrices[0];
#pragma unroll
      for (int other = 1; other < kMatrices; ++other)  // no array that is indexed at run time
        if (m == other) from = matrices[other];
      for (int row = 0; row < columns; row += kRowsOfStage) {
        const int count = columns - row < kRowsOfStage ? columns - row : kRowsOfStage;
        for (int c = 0; c < cut.chunks; ++c) {
          if (!reserve(uint32_t(cut.length(c, size)) * count * sizeof(W))) return;
          issue(from + row * pitch + int64_t(c) * cut.chunk, pitch, count, cut.length(c, size), cut.chunk);
        }
      }
    }
  }

  // Before a matrix is streamed that this launch may have written: waits as the computing warps do.
  __device__ __forceinline__ void wait_for_events() {
    while (!stopped && !try_wait(approved[task % kRecords], task / kRecords % 2)) stopped = *abort_at <= task;
    stopped = __any_sync(~0u, stopped || *abort_at <= task);
    fence_proxy_global();
  }

  // Before the block ends: no copy may arrive in memory that is someone else's.
  __device__ __forceinline__ void drain() {
    while (tail != head) retire();
  }

 private:
  __device__ __forceinline__ void retire() {
    wait(barriers->full[tail % kStages], tail / kStages % 2);
    in_flight -= barriers->bytes[tail % kStages];
    ++tail;
  }

  // Waits until the next stage is free and its bytes may be asked for; false: the launch is ending.
  __device__ __forceinline__ bool reserve(uint32_t wanted) {
    while (!stopped && !try_wait(barriers->empty[head % kStages], 1 - head / kStages % 2)) stopped = *abort_at <= task;
    stopped = __any_sync(~0u, stopped);
    if (stopped) return false;
    while (tail != head && (head - tail == kStages || in_flight + wanted > kInFlight)) retire();
    barriers->bytes[head % kStages] = wanted;  // all lanes: the same
    in_flight += wanted;
    return true;
  }

  // Rows lie `chunk` elements apart in the stage.
  template <class W>
  __device__ __forceinline__ void issue(const W* from, int64_t pitch, int count, int length, int chunk) {
    const int lane = lane_of_warp();
    Barrier& full = barriers->full[head % kStages];
    W* const to = reinterpret_cast<W*>(memory + head % kStages * kStageBytes);
    if (is_aligned(from, pitch * int64_t(sizeof(W))) && length % kVector == 0) {
      if (lane == 0) arrive_expecting(full, uint32_t(length * count) * sizeof(W));
      __syncwarp();
      if (length == chunk && pitch == chunk) {
        if (lane == 0) copy_bulk(to, from, uint32_t(length * count) * sizeof(W), full);
      } else if (lane < count) {
        copy_bulk(to + lane * chunk, from + lane * pitch, uint32_t(length) * sizeof(W), full);
      }
    } else {  // by hand, and the last vector filled up with zeros
      const int whole = (length + kVector - 1) / kVector * kVector;
      for (int row = 0; row < count; ++row)
        for (int i = lane; i < whole; i += kLanes) to[row * chunk + i] = i < length ? from[row * pitch + i] : W{};
      fence_proxy_shared();
      __syncwarp();
      if (lane == 0) arrive(full);
    }
    ++head;
  }
};

}  // namespace onelaunch
