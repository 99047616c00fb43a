// A program as the workers walk it: records of tasks, made by the host (records.py) with the layout asserted on both
// sides, and the parameters of a launch.
#pragma once

#include "types.cuh"

namespace onelaunch {

// A wait of launch e is over when the event has reached e * total + value (modulo 2^32).
struct Wait {
  uint32_t event, value, total;
};
static_assert(sizeof(Wait) == 12, "records.py writes three words");

inline constexpr int kInline = 4;  // waits, and signals, that a record holds itself; more of them are in a table

// One task. `Shape` says how many operands and tile variables the program's tasks have at most.
template <class Shape>
struct alignas(16) TaskOf {
  uint32_t kernel;
  uint32_t number;  // in the program: for people
  uint32_t n_waits, n_signals;
  uint32_t more_waits, more_signals;  // where the rest of a longer list begins in its table
  Wait waits[kInline];
  uint32_t signals[kInline];
  uint32_t operands[Shape::kOperands];
  int32_t tile[2 * Shape::kVars];
  uint32_t spans[2 * Shape::kSpans];  // of operands that are staged: first element, count
};

// An index that data picked outside a buffer; `code` is 1 + the dimension, 0: none.
struct Fault {
  uint32_t code, operand;
  int64_t value, size;
};

enum Status : uint32_t { kOk = 0, kDeadline = 1, kFault = 2 };

// Why a launch ended early; the host reads it (records.py: Report).
struct Report {
  uint32_t status, worker, task, event, seen, awaited;
  Fault fault;
};
static_assert(sizeof(Report) == 48, "records.py has the same layout");

// What the workers of a program share. `epoch` counts launches that ended well.
struct Control {
  uint32_t epoch, done, abort, unused;
  Report report;
};
static_assert(sizeof(Control) == 64, "records.py has the same layout");

// When a task's worker reached it, when its events had been reached, when it was done, when it had signalled: %globaltimer.
struct Stamp {
  int64_t arrived, began, ended, signalled;
};

// The parameters of one launch. They travel with the launch, so that a captured graph keeps its own; the tables that
// they point to are the program's and do not change.
template <class Shape>
struct LaunchOf {
  const char* records;           // of all workers, queue after queue
  const uint32_t* queues;        // where each worker's queue begins; one more: the end
  const Wait* waits;             // lists longer than kInline
  const uint32_t* signals;
  uint32_t* events;
  Control* control;
  Report* report;                // host memory; written once until the host has taken it
  Stamp* stamps;                 // one a task, or null
  char* scratch;                 // Shape::kScratch bytes a worker
  int64_t patience;              // nanoseconds that a wait may take
  uint32_t n_events, last;       // last: the program ends with this launch (op.cuh)
  uint32_t* flagged;             // memory of values with flags
  uint64_t n_flagged;            // their number
  int64_t symbols[Shape::kSymbols];
  void* buffers[Shape::kBuffers];
};

}  // namespace onelaunch
