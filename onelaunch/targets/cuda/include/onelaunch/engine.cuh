// The walk of one block through its queue, in five roles: eight warps compute, one produces (it streams weights ahead of
// them through the ring, and task records), one polls (it waits for the tasks' events and approves them in order), one
// fetches (inputs of approved tasks), one signals (a task that is done and approved).
//
// A task whose every input is constant, or has flags (flag.cuh), computes before its events have been reached: its inputs
// are waited for one by one. It signals only when they have been, so that an event still says all that the check takes
// it to say. Any other task waits for the poller's approval first.
//
// Giving up. Only the poller owns a clock. It approves every task up to the first whose wait has failed or which another
// worker's failure has made pointless, and says so in `abort_at`. From there on nobody waits and nothing is signalled: what
// computes goes on with whatever it has to the end of its task, where all threads agree to leave. So named barriers are
// never left half full.
//
// The end. Every block counts itself out; the last one advances the epoch, or, if the launch was aborted, resets all
// counters and hands the report to the host. The next launch finds everything ready, whoever started it.
#pragma once

#include "event.cuh"
#include "fetch.cuh"
#include "ring.cuh"
#include "scalar.cuh"
#include "stress.cuh"
#include "task.cuh"

namespace onelaunch {

inline constexpr int kProducer = kWarps, kPoller = kWarps + 1, kSignaller = kWarps + 2, kFetcher = kWarps + 3;  // warps
inline constexpr int kBlock = (kWarps + 4) * kLanes;

// Registers of a thread: of 168 at the start, those that do not compute give most away.
inline constexpr int kComputing = 208, kOthers = 88;

// A block's shared memory besides the ring and the kernels' scratch.
template <class Shape>
struct alignas(16) Block {
  TaskOf<Shape> records[kRecords];
  RingBarriers<Shape::kStages> ring;
  RingBarriers<Shape::kSlots> fetched;
  Barrier loaded[kRecords];    // the record's copy has arrived
  Barrier approved[kRecords];  // the poller arrives: events have been reached, or `abort_at` says otherwise
  Barrier done[kRecords];      // the computing threads (one for all) have written the task's results
  Barrier finished[kRecords];  // nobody reads the record any more: the poller, the signaller and the fetcher
  Exchange exchange;
  Fault fault;
  uint32_t faulty;  // position of the task that found the fault: others may still be leaving the task before it
  uint32_t epoch, abort_at, is_last;
  bool go_on[2];   // of every other task: the next one's record is there, and nothing has been given up
  int64_t began;   // see Stamp
  uint32_t computed;  // position of the task that had all it waits for, last
};

// Whether any kernel of the program has inputs that are fetched; the fetcher has nothing to do in others.
template <class Shape>
__device__ constexpr bool fetches() {
  return Shape::kSlotBytes != 0;
}

template <class Shape>
__device__ __forceinline__ const volatile uint32_t* abort_of(Block<Shape>& block) {
  return &block.abort_at;
}

// Waits for `barrier` unless tasks from `task` on will not run; true: it has been reached.
template <class Shape>
__device__ __forceinline__ bool wait_unless_aborted(Block<Shape>& block, Barrier& barrier, uint32_t parity,
                                                    uint32_t task) {
  while (!try_wait(barrier, parity))
    if (*abort_of(block) <= task) return false;
  return true;
}

// The flag of values that this launch writes.
template <class Shape>
__device__ __forceinline__ uint32_t flag_of(const Block<Shape>& block) {
  return 1 - block.epoch % 2;
}

// --- the launch's state ---------------------------------------------------------------------------------------------

// The first failure of a launch is the one that is reported.
template <class Shape>
__device__ inline void raise(const LaunchOf<Shape>& launch, const Report& report) {
  Control& control = *launch.control;
  if (atomicCAS(&control.abort, 0u, 1u) == 0) control.report = report;
}

template <class Shape>
__device__ inline void signal_all(const LaunchOf<Shape>& launch, const TaskOf<Shape>& task) {
  if (task.n_signals == 0) return;
  fence_gpu();
  for (uint32_t i = 0; i < task.n_signals; ++i) {
    const uint32_t event = i < kInline ? task.signals[i] : launch.signals[task.more_signals + i - kInline];
    add_relaxed(&launch.events[event]);
  }
}

// --- roles ----------------------------------------------------------------------------------------------------------

// Whether all threads go on to task `t`; decided by one of them.
template <class Shape>
__device__ __forceinline__ void decide(Block<Shape>& block, uint32_t t, uint32_t tasks) {
  const bool comes = t < tasks && wait_unless_aborted(block, block.loaded[t % kRecords], t / kRecords % 2, t);
  block.go_on[t % 2] = comes && *abort_of(block) > t;
}

template <class Kernels, class Shape>
__device__ __forceinline__ void compute(const LaunchOf<Shape>& launch, Block<Shape>& block, char* ring, char* slots,
                                        char* shared, uint32_t tasks) {
  const bool leads = thread_of_block() == 0, stamping = launch.stamps != nullptr && leads;
  Scratch scratch = {shared, launch.scratch + uint64_t(blockIdx.x) * Shape::kScratch, &block.exchange, &block.fault,
                     &block.faulty, nullptr, 0, stamping ? &block.began : nullptr, &block.computed,
                     {abort_of(block), 0, flag_of(block)}};
  Stages<Shape::kStages> stages = {ring, &block.ring, abort_of(block), lane_of_warp() == 0};
  Stages<Shape::kSlots, Shape::kSlotBytes> fetched = {slots, &block.fetched, abort_of(block), lane_of_warp() == 0};
  if (leads) decide(block, 0, tasks);
  sync_block();
  for (uint32_t t = 0; block.go_on[t % 2]; ++t) {
    wait(block.loaded[t % kRecords], t / kRecords % 2);  // at once, but this thread has not looked yet
    const TaskOf<Shape>& task = block.records[t % kRecords];
    scratch.approved = &block.approved[t % kRecords], scratch.approval = t / kRecords % 2;
    scratch.patience.task = stages.task = fetched.task = t;
    scratch.shared = shared + opaque_zero();
    if (stamping) launch.stamps[task.number].arrived = block.began = now();
    jitter();
    Kernels::run(launch, task, scratch, stages, fetched);
    jitter();
    if (leads) decide(block, t + 1, tasks);
    sync_block();
    const bool faulty = *const_cast<const volatile uint32_t*>(&block.faulty) == t;  // the same for all threads
    if (leads) {
      if (stamping) launch.stamps[task.number].began = block.began, launch.stamps[task.number].ended = now();
      if (faulty) {
        atomicMin(&block.abort_at, t);
        raise(launch, Report{kFault, blockIdx.x, task.number, 0, 0, 0, block.fault});
      }
      arrive(block.done[t % kRecords]);
    }
    if (faulty) return;
  }
}

// Signals what is done, in order, when the poller has seen what it was to wait for.
template <class Shape>
__device__ __forceinline__ void announce(const LaunchOf<Shape>& launch, Block<Shape>& block, uint32_t tasks) {
  if (lane_of_warp() != 0) return;
  for (uint32_t t = 0; t < tasks; ++t) {
    const uint32_t slot = t % kRecords, parity = t / kRecords % 2;
    if (!wait_unless_aborted(block, block.done[slot], parity, t)) return;
    if (!wait_unless_aborted(block, block.approved[slot], parity, t)) return;
    if (*abort_of(block) <= t) return;
    const TaskOf<Shape>& task = block.records[slot];
    jitter();
    signal_all(launch, task);
    if (launch.stamps != nullptr) launch.stamps[task.number].signalled = now();
    arrive(block.finished[slot]);
  }
}

template <class Kernels, class Shape>
__device__ __forceinline__ void produce(const LaunchOf<Shape>& launch, Block<Shape>& block, char* ring, uint32_t first,
                                        uint32_t tasks) {
  using Task = TaskOf<Shape>;
  const char* const records = launch.records + uint64_t(first) * sizeof(Task);
  Producer<Shape::kStages> producer = {ring, &block.ring, block.approved, block.done, abort_of(block), &block.computed};
  uint32_t asked = 0;  // records
  const auto ask = [&]() {
    Barrier& loaded = block.loaded[asked % kRecords];
    if (elect_lane()) {
      arrive_expecting(loaded, sizeof(Task));
      copy_bulk(&block.records[asked % kRecords], records + uint64_t(asked) * sizeof(Task), sizeof(Task), loaded);
    }
    ++asked;
  };
  // A record's place is free when its last user is done, which for the first round is at once.
  const auto parity = [&](uint32_t t) { return 1 - t / kRecords % 2; };
  for (uint32_t t = 0; t < tasks && !producer.stopped; ++t) {
    // The producer itself reads record t until the next turn of this loop: no record beyond t + kRecords - 1 is asked for.
    while (asked < tasks && asked < t + kRecords &&
           __all_sync(~0u, test_wait(block.finished[asked % kRecords], parity(asked))))
      ask();
    if (asked == t) {
      if (!__all_sync(~0u, wait_unless_aborted(block, block.finished[t % kRecords], parity(t), t))) break;
      ask();
    }
    wait(block.loaded[t % kRecords], t / kRecords % 2);
    jitter();
    producer.task = t;
    Kernels::stream(launch, block.records[t % kRecords], producer);
  }
  producer.drain();
  for (uint32_t t = asked < kRecords ? 0 : asked - kRecords; t < asked; ++t)
    wait(block.loaded[t % kRecords], t / kRecords % 2);
}

template <class Kernels, class Shape>
__device__ __forceinline__ void fetch(const LaunchOf<Shape>& launch, Block<Shape>& block, char* slots, uint32_t tasks) {
  Fetcher<Shape::kSlots, Shape::kSlotBytes> fetcher = {slots, &block.fetched, block.approved, block.done,
                                                             abort_of(block)};
  for (uint32_t t = 0; t < tasks && !fetcher.stopped; ++t) {
    const uint32_t slot = t % kRecords;
    if (!__all_sync(~0u, wait_unless_aborted(block, block.loaded[slot], t / kRecords % 2, t))) break;
    fetcher.task = t;
    Kernels::fetch(launch, block.records[slot], fetcher);
    __syncwarp();  // before the record goes, no lane needs it
    if (lane_of_warp() == 0) arrive(block.finished[slot]);
  }
  fetcher.drain();
}

// Waits for the events of one task, a lane a wait; false: it will not run.
template <class Shape>
__device__ __forceinline__ bool poll(const LaunchOf<Shape>& launch, Block<Shape>& block, const TaskOf<Shape>& task,
                                     uint32_t t) {
  constexpr uint32_t kProbes = 256;  // between two looks at the clock and the flag
  for (uint32_t i = lane_of_warp(); __any_sync(~0u, i < task.n_waits); i += kLanes) {
    Wait own = {0, 0, 0};
    bool over = i >= task.n_waits;
    if (!over) own = i < kInline ? task.waits[i] : launch.waits[task.more_waits + i - kInline];
    const uint32_t target = block.epoch * own.total + own.value;
    int64_t since = 0;
    jitter();
    for (uint32_t probes = 1;; ++probes) {
      uint32_t seen = target;
      if (!over) over = reached(seen = load_acquire(&launch.events[own.event]), target);
      if (__all_sync(~0u, over)) break;
      if (probes % kProbes != 0) continue;
      const int64_t time = now();
      if (since == 0) since = time;
      const bool late = time - since > launch.patience;
      if (late && !over)
        raise(launch, Report{kDeadline, blockIdx.x, task.number, own.event, seen, target, Fault{0, 0, 0, 0}});
      if (__any_sync(~0u, late || load_relaxed(&launch.control->abort) != 0 || *abort_of(block) <= t)) return false;
    }
  }
  return true;
}

template <class Shape>
__device__ __forceinline__ void approve(const LaunchOf<Shape>& launch, Block<Shape>& block, uint32_t tasks) {
  for (uint32_t t = 0; t < tasks; ++t) {
    const uint32_t slot = t % kRecords, parity = t / kRecords % 2;
    if (!__all_sync(~0u, wait_unless_aborted(block, block.loaded[slot], parity, t))) return;
    const bool good = poll(launch, block, block.records[slot], t);
    if (lane_of_warp() == 0 && !good) atomicMin(&block.abort_at, t);
    __syncwarp();
    if (lane_of_warp() == 0) {
      arrive(block.approved[slot]);
      arrive(block.finished[slot]);
    }
    if (!good) return;
  }
}

// --- the whole --------------------------------------------------------------------------------------------------------

// Before all roles begin, by one thread.
template <class Shape>
__device__ __forceinline__ void prepare(const LaunchOf<Shape>& launch, Block<Shape>& block) {
  block.ring.init_all();
  block.fetched.init_all();
  for (int i = 0; i < kRecords; ++i) {
    init(block.loaded[i], 1);
    init(block.approved[i], 1);
    init(block.done[i], 1);
    init(block.finished[i], fetches<Shape>() ? 3 : 2);
  }
  fence_init();
  block.epoch = load_relaxed(&launch.control->epoch);
  block.abort_at = block.computed = ~0u;
  block.fault.code = 0;
  block.faulty = ~0u;
}

// The last block to leave makes the program ready for its next launch.
template <int kSize = kBlock, class Shape>
__device__ inline void leave(const LaunchOf<Shape>& launch, Block<Shape>& block) {
  Control& control = *launch.control;
  if (threadIdx.x == 0) {
    fence_gpu();
    block.is_last = atomicAdd(&control.done, 1u) + 1 == gridDim.x;
    fence_gpu();
  }
  __syncthreads();
  if (!block.is_last) return;
  const bool aborted = load_relaxed(&control.abort) != 0;
  if (aborted) {
    for (uint32_t i = threadIdx.x; i < launch.n_events; i += kSize) launch.events[i] = 0;
    for (uint64_t i = threadIdx.x; i < launch.n_flagged; i += kSize) launch.flagged[i] = 0;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (aborted) {
    volatile uint32_t& status = launch.report->status;
    if (status == kOk) {
      Report report = control.report;
      const uint32_t why = report.status;
      report.status = kOk;
      *launch.report = report;
      fence_system();
      status = why;
      fence_system();
    }
  }
  control.epoch = aborted ? 0 : block.epoch + 1;
  control.abort = 0;
  control.done = 0;
}

template <class Kernels, class Shape>
__device__ __forceinline__ void work(const LaunchOf<Shape>& launch) {
  char* const ring = shared_memory();
  char* const slots = ring + Shape::kStages * kStageBytes;
  char* const shared = slots + Shape::kSlots * Shape::kSlotBytes;
  Block<Shape>& block = *reinterpret_cast<Block<Shape>*>(shared + Shape::kShared);
  const uint32_t first = launch.queues[blockIdx.x], tasks = launch.queues[blockIdx.x + 1] - first;
  if (threadIdx.x == 0) prepare(launch, block);
  __syncthreads();
  const int warp = warp_of_block();
  if (warp < kWarps) {
    take_registers<kComputing>();
    compute<Kernels>(launch, block, ring, slots, shared, tasks);
  } else {
    give_registers<kOthers>();
    if (warp == kProducer) produce<Kernels>(launch, block, ring, first, tasks);
    if (warp == kPoller) approve(launch, block, tasks);
    if (warp == kSignaller) announce(launch, block, tasks);
    if (fetches<Shape>() && warp == kFetcher) fetch<Kernels>(launch, block, slots, tasks);
  }
  __syncthreads();
  leave(launch, block);
}

// What the host must give a launch; the generated source has it checked when it is loaded.
template <class Shape>
__device__ constexpr uint32_t shared_bytes() {
  return Shape::kStages * kStageBytes + Shape::kSlots * Shape::kSlotBytes + Shape::kShared + sizeof(Block<Shape>);
}

}  // namespace onelaunch
