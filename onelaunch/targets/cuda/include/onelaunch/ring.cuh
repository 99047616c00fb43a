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

inline constexpr int kStageBytes = 32768;
inline constexpr int kGroup = 8;             // rows of a matrix that are multiplied together
inline constexpr int kRecords = 16;          // tasks whose records a block holds: how far its roles may lie apart
// Bytes on their way, measured on an H200: less starves, more delays everyone else's loads. What is fetched for a task
// that still waits for its inputs is fetched more slowly: it must not delay just these.
inline constexpr uint32_t kInFlight = 96 * 1024, kInFlightAhead = 32 * 1024;

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

// How the rows of a matrix are cut along the contraction, so that a group of them fits a stage; of short rows, several
// groups do, if `kGroups` is more than 1.
template <class W, int kGroups>
struct Cut {
  static constexpr int kMost = kStageBytes / kGroup / int(sizeof(W));
  static constexpr int kGrain = 64;  // elements; every chunk but the last is a multiple
  int chunks, chunk, rows;

  __device__ __forceinline__ constexpr explicit Cut(int size) : chunks(0), chunk(0), rows(kGroup) {
    chunks = (size + kMost - 1) / kMost;
    const int even = chunks == 0 ? 0 : (size + chunks - 1) / chunks;
    chunk = (even + kGrain - 1) / kGrain * kGrain;
    chunks = chunk == 0 ? 0 : (size + chunk - 1) / chunk;  // rounding may have made the last one empty
    if (chunks == 1) rows *= kMost / chunk < kGroups ? kMost / chunk : kGroups;
  }

  __device__ __forceinline__ constexpr int length(int number, int size) const {
    return number + 1 < chunks ? chunk : size - number * chunk;
  }
};

// A consumer's side: one for each computing warp, all of which step through the same items. After an abort its waits are
// over at once, and what is in the stages means nothing.
template <int kStages, int kBytes = kStageBytes>
struct Stages {
  char* memory;
  RingBarriers<kStages>* barriers;
  const volatile uint32_t* abort_at;
  bool leads;                      // of its warp, this thread
  uint32_t task = 0;               // position in the queue
  uint32_t stage = 0, parity = 0;  // of the next item

  // The stage of the next item, when it has arrived. The warp has released all items before it.
  __device__ __forceinline__ const char* wait() const {
    while (!try_wait(barriers->full[stage], parity))
      if (*abort_at <= task) break;
    return memory + stage * kBytes;
  }

  // The warp needs it no more.
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (leads) arrive(barriers->empty[stage]);
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
  Barrier* done;                      // [kRecords]: tasks that have been computed
  const volatile uint32_t* abort_at;  // tasks of this worker from here on will not run
  const volatile uint32_t* computed;  // the task that is computed, or was last
  uint32_t task = 0;                  // position in the queue
  uint32_t stage = 0, parity = 0;     // of the next item
  uint32_t tail = 0, tail_parity = 0;    // of the oldest item that may still be on its way
  uint32_t outstanding = 0, in_flight = 0;  // items from there on, and their bytes
  bool stopped = false;

  // Streams rows [0, columns) of a matrix, some at a time, chunk by chunk. This loop is one thread's worth of instructions
  // between two items, and has to be short: at full speed there are 1,800 cycles for one of 32 KB. So it works on a copy,
  // which registers hold: a Producer whose address is taken lies in memory.
  template <class W, int kGroups>
  __device__ __noinline__ void rows(const W* from, int64_t pitch, int size, int columns) {
    Producer own = *this;
    own.template stream<W, kGroups>(from, pitch, size, columns);
    *this = own;
  }

  // Before a matrix is streamed that this launch may have written: waits as the computing warps do.
  __device__ __forceinline__ void wait_for_events() {
    while (!stopped && !try_wait(approved[task % kRecords], task / kRecords % 2)) stopped = *abort_at <= task;
    const uint32_t before = task - 1;  // this block's own stores: the order of its queue needs no event
    while (!stopped && task != 0 && !try_wait(done[before % kRecords], before / kRecords % 2)) stopped = *abort_at <= task;
    stopped = __any_sync(~0u, stopped || *abort_at <= task);
    fence_proxy_global();
  }

  // Before the block ends: no copy may arrive in memory that is someone else's.
  __device__ __forceinline__ void drain() {
    while (outstanding != 0) retire();
  }

 private:
  template <class W, int kGroups>
  __device__ __forceinline__ void stream(const W* from, int64_t pitch, int size, int columns) {
    memory = Shared::place(memory);
    barriers = Shared::place(barriers);
    abort_at = Shared::place(const_cast<const uint32_t*>(abort_at));
    computed = Shared::place(const_cast<const uint32_t*>(computed));
    const Cut<W, kGroups> cut(size);
    const bool bulk = is_aligned(from, pitch * int64_t(sizeof(W))) && size % kVector == 0;
    const bool whole = bulk && cut.chunk == size && pitch == size;
    for (int row = 0; row < columns; row += cut.rows, from += cut.rows * pitch) {
      const int count = columns - row < cut.rows ? columns - row : cut.rows;
      for (int c = 0; c < cut.chunks; ++c) {
        const int length = cut.length(c, size);
        const uint32_t bytes = uint32_t(length * count) * uint32_t(sizeof(W));
        if (!reserve(bytes)) return;
        const W* const start = from + c * cut.chunk;
        if (whole) copy(start, bytes);
        else if (bulk) copy_rows(start, pitch, count, length, cut.chunk, bytes);
        else store_rows(reinterpret_cast<W*>(memory + stage * kStageBytes), barriers->full[stage], start, pitch, count,
                        length, cut.chunk);
        advance(bytes);
      }
    }
  }

  static __device__ __forceinline__ void step(uint32_t& stage, uint32_t& parity) {
    const bool last = stage + 1 == kStages;
    stage = last ? 0 : stage + 1;
    parity ^= last;
  }

  __device__ __forceinline__ void retire() {
    wait(barriers->full[tail], tail_parity);
    in_flight -= barriers->bytes[tail];
    --outstanding;
    step(tail, tail_parity);
  }

  // Waits until the next stage is free and its bytes may be asked for; false: the launch is ending.
  __device__ __forceinline__ bool reserve(uint32_t wanted) {
    stopped = __any_sync(~0u, stopped);
    while (!stopped && !__all_sync(~0u, try_wait(barriers->empty[stage], parity ^ 1)))
      stopped = __any_sync(~0u, *abort_at <= task);  // after an abort nobody may empty it
    if (stopped) return false;
    const auto full = [&] {
      return outstanding == kStages || in_flight + wanted > (*computed == task ? kInFlight : kInFlightAhead);
    };
    while (outstanding != 0 && full()) retire();
    __syncwarp();  // a lane still looking for an item would miss it, were its stage filled again
    return true;
  }

  __device__ __forceinline__ void advance(uint32_t bytes) {
    barriers->bytes[stage] = bytes;  // all lanes: the same
    in_flight += bytes;
    ++outstanding;
    step(stage, parity);
  }

  template <class W>
  __device__ __forceinline__ void copy(const W* from, uint32_t bytes) {
    if (!elect_lane()) return;
    arrive_expecting(barriers->full[stage], bytes);
    copy_bulk(memory + stage * kStageBytes, from, bytes, barriers->full[stage]);
  }

  // Rows lie `chunk` elements apart in the stage.
  template <class W>
  __device__ __forceinline__ void copy_rows(const W* from, int64_t pitch, int count, int length, int chunk,
                                            uint32_t bytes) {
    if (!elect_lane()) return;
    arrive_expecting(barriers->full[stage], bytes);
    W* const to = reinterpret_cast<W*>(memory + stage * kStageBytes);
    for (int row = 0; row < count; ++row)
      copy_bulk(to + row * chunk, from + row * pitch, length * int(sizeof(W)), barriers->full[stage]);
  }

  // By hand, for rows that are not aligned; the last vector is filled up with zeros.
  template <class W>
  static __device__ __noinline__ void store_rows(W* to, Barrier& full, const W* from, int64_t pitch, int count, int length,
                                                 int chunk) {
    const int whole = (length + kVector - 1) / kVector * kVector;
    for (int row = 0; row < count; ++row)
      for (int i = lane_of_warp(); i < whole; i += kLanes) to[row * chunk + i] = i < length ? from[row * pitch + i] : W{};
    fence_proxy_shared();
    __syncwarp();
    if (lane_of_warp() == 0) arrive(full);
  }
};

}  // namespace onelaunch
