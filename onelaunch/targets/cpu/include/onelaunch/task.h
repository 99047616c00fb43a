// A program as the runtime walks it: flat tables of plain data, filled by the host, with one layout on both sides.
#pragma once

#include <cstdint>

namespace onelaunch {

// What a kernel reads besides its tile: the address of every buffer of the program, and the launch's symbols.
struct Args {
  void* const* buffers;
  const int64_t* symbols;
};

// Data picked something that does not exist (an index outside a buffer). The kernel that finds it fills this in, must
// not touch the memory meant, and returns; the launch is aborted.
struct Fault {
  uint32_t code;  // 0: none; the meaning of others is between the code generator and the host
  uint32_t operand;
  int64_t value;
};

// One worker's own memory, aligned to 64 bytes and kept from task to task, so that a kernel may leave there what the
// next task of the same launch can use. `launch` differs between consecutive launches.
struct Scratch {
  char* data;
  int64_t bytes;
  uint64_t launch;
  uint32_t worker;
  Fault fault;
};

// `prefetch` may be null. It asks for constant operands only (weights): it runs before the task's events are reached.
struct Kernel {
  void (*run)(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch);
  void (*prefetch)(const Args& args, const uint32_t* operands, const int64_t* tile);
};

struct Wait {
  uint32_t event;
  uint32_t value;  // within a launch; the runtime adds launches * total
};

struct Task {
  uint32_t kernel;
  uint32_t first_operand;  // into Tables::operands: buffer numbers, as many as the kernel takes
  uint32_t first_tile;     // into Tables::tiles: low and high of each tile variable
  uint32_t first_wait, n_waits;
  uint32_t first_signal, n_signals;
  uint32_t op;  // for people
};

// Everything `create` needs. The tables are copied; the kernels' code must outlive the program.
struct Tables {
  const Kernel* kernels;
  const Task* tasks;
  const uint32_t* operands;
  const int64_t* tiles;
  const Wait* waits;
  const uint32_t* signals;  // events, each incremented once at the end of the task
  const uint32_t* totals;   // of each event: signals a launch
  const uint32_t* queues;   // task numbers of worker 0, then of worker 1, ...
  const uint32_t* queue_ends;
  uint32_t n_kernels, n_tasks, n_operands, n_tiles, n_waits, n_signals, n_events, n_queued, n_workers, n_buffers;
  int64_t scratch_bytes;  // a worker
};

enum Status : int32_t {
  kOk = 0,
  kDeadline = 1,  // an event was not reached in time
  kFault = 2,     // a kernel reported a Fault
  kThreads = 3,   // the system refused a worker thread
  kShutdown = 4,  // the process is exiting
  kCall = 5,      // a null pointer
};

// Why a launch ended early. Which fields have a meaning depends on the status.
struct LaunchError {
  int32_t status;
  uint32_t worker, task;
  uint32_t event, seen, awaited;
  Fault fault;
};

// When a task's worker reached it, when its events had been reached, when it was done: steady clock, nanoseconds.
struct Stamp {
  int64_t arrived, began, ended;
};

}  // namespace onelaunch
