// One program ready to run, and its launches: every worker walks its queue, task by task: wait, run, signal.
//
// A launch that ends early (an event not reached by the deadline, a fault in a kernel) raises a flag that every wait and
// every worker between tasks looks at. It leaves counters in no useful state, and says so: the next launch zeroes them.
// The same mark covers a process forked while another thread was launching.
#pragma once

#include <fenv.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "event.h"
#include "pool.h"
#include "task.h"

namespace onelaunch {

class Engine {
 public:
  static constexpr int64_t kDefaultDeadline = 60'000'000'000;  // nanoseconds a launch may take

  // Null, with the reason in `why`, where the tables contradict themselves or memory is short.
  static std::unique_ptr<Engine> create(const Tables& tables, std::string& why) {
    std::unique_ptr<Engine> engine(new Engine(tables));
    why = engine->verify();
    if (!why.empty()) return nullptr;
    return engine;
  }

  // Runs the program once. `buffers` and `symbols` are read during the call only.
  LaunchError launch(void* const* buffers, const int64_t* symbols) {
    if (buffers == nullptr && n_buffers_ != 0) return failed(kCall);
    Pool& pool = Pool::current();
    std::lock_guard<std::mutex> lease(pool.lease());
    if (dirty_) set_launches(0);
    dirty_ = true;
    ++serial_;
    args_ = {buffers, symbols};
    error_ = {};
    raised_.store(0, std::memory_order_relaxed);
    aborted_.store(0, std::memory_order_relaxed);
    deadline_at_ = nanoseconds() + limit_.load(std::memory_order_relaxed);
    const Status status = pool.run(n_workers_, &Engine::work, this);
    if (status != kOk) return failed(status);
    if (aborted_.load(std::memory_order_acquire) == 0) {
      dirty_ = false;
      ++launches_;
    }
    return error_;
  }

  void set_deadline(int64_t limit) { limit_.store(std::min(limit, INT64_MAX / 2), std::memory_order_relaxed); }

  // Makes the counters what they are after so many launches: tests begin near wrap-around.
  void set_counters(uint32_t launches) {
    std::lock_guard<std::mutex> lease(Pool::current().lease());
    set_launches(launches);
    dirty_ = false;
  }

  // `stamps` holds one Stamp a task and is overwritten by each launch; null turns tracing off.
  void set_trace(Stamp* stamps) {
    std::lock_guard<std::mutex> lease(Pool::current().lease());
    stamps_ = stamps;
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };

  explicit Engine(const Tables& t)
      : kernels_(t.kernels, t.kernels + t.n_kernels),
        tasks_(t.tasks, t.tasks + t.n_tasks),
        operands_(t.operands, t.operands + t.n_operands),
        tiles_(t.tiles, t.tiles + t.n_tiles),
        waits_(t.waits, t.waits + t.n_waits),
        signals_(t.signals, t.signals + t.n_signals),
        totals_(t.totals, t.totals + t.n_events),
        queues_(t.queues, t.queues + t.n_queued),
        queue_ends_(t.queue_ends, t.queue_ends + t.n_workers),
        n_workers_(t.n_workers),
        n_buffers_(t.n_buffers),
        scratch_bytes_((t.scratch_bytes + 63) / 64 * 64),
        events_(new Event[t.n_events]) {
    if (n_workers_ != 0 && scratch_bytes_ != 0)
      scratch_.reset(static_cast<char*>(std::aligned_alloc(64, size_t(scratch_bytes_) * n_workers_)));
    spins_ = n_workers_ <= usable_cores() ? 2000 : 20;
  }

  static uint32_t usable_cores() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return uint32_t(CPU_COUNT(&set));
#endif
    return std::thread::hardware_concurrency();
  }

  std::string verify() const {
    const auto out_of = [](const char* what, uint32_t i) { return std::string(what) + " of task " + std::to_string(i); };
    if (n_workers_ == 0) return "a program needs at least one worker";
    if (scratch_bytes_ < 0) return "negative scratch size";
    if (scratch_bytes_ != 0 && !scratch_) return "no memory for the workers' scratch";
    std::vector<uint32_t> counted(totals_.size()), runs(tasks_.size());
    for (uint32_t i = 0; i < tasks_.size(); ++i) {
      const Task& task = tasks_[i];
      if (task.kernel >= kernels_.size() || kernels_[task.kernel].run == nullptr) return out_of("unknown kernel", i);
      if (task.first_operand > operands_.size()) return out_of("operands outside the table", i);
      if (task.first_tile > tiles_.size()) return out_of("tile outside the table", i);
      if (uint64_t(task.first_wait) + task.n_waits > waits_.size()) return out_of("waits outside the table", i);
      if (uint64_t(task.first_signal) + task.n_signals > signals_.size()) return out_of("signals outside the table", i);
      for (uint32_t w = 0; w < task.n_waits; ++w)
        if (waits_[task.first_wait + w].event >= totals_.size()) return out_of("unknown event awaited", i);
        else if (waits_[task.first_wait + w].value > totals_[waits_[task.first_wait + w].event])
          return out_of("wait for more signals than the event gets", i);
      for (uint32_t s = 0; s < task.n_signals; ++s) {
        const uint32_t event = signals_[task.first_signal + s];
        if (event >= totals_.size()) return out_of("unknown event signalled", i);
        ++counted[event];
      }
    }
    for (uint32_t operand : operands_)
      if (operand >= n_buffers_) return "operand " + std::to_string(operand) + " is not a buffer";
    for (uint32_t e = 0; e < totals_.size(); ++e)
      if (counted[e] != totals_[e] || totals_[e] >> 31)
        return "event " + std::to_string(e) + " is signalled " + std::to_string(counted[e]) + " times, not " +
               std::to_string(totals_[e]);
    uint32_t at = 0;
    for (uint32_t end : queue_ends_) {
      if (end < at || end > queues_.size()) return "a queue ends outside the table";
      for (; at < end; ++at) {
        if (queues_[at] >= tasks_.size()) return "a queue holds unknown task " + std::to_string(queues_[at]);
        ++runs[queues_[at]];
      }
    }
    for (uint32_t i = 0; i < runs.size(); ++i)
      if (runs[i] != 1) return "task " + std::to_string(i) + " is queued " + std::to_string(runs[i]) + " times";
    return "";
  }

  static LaunchError failed(Status status) {
    LaunchError error{};
    error.status = status;
    return error;
  }

  void set_launches(uint32_t launches) {
    launches_ = launches;
    for (uint32_t e = 0; e < totals_.size(); ++e)
      events_[e].value.store(launches * totals_[e], std::memory_order_relaxed);  // published by the pool's wake-up
  }

  // The first to fail writes the record; the flag that others see comes after it.
  void abort(const LaunchError& error) {
    if (raised_.exchange(1, std::memory_order_relaxed) == 0) {
      error_ = error;
      aborted_.store(1, std::memory_order_release);
    }
  }

  bool aborted() const { return aborted_.load(std::memory_order_relaxed) != 0; }

  static void work(void* self, uint32_t worker) {
    fenv_t before;  // rounding and flush-to-zero of whichever thread this is must not reach the results
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    static_cast<Engine*>(self)->walk(worker);
    fesetenv(&before);
  }

  void walk(uint32_t worker) {
    Scratch scratch{scratch_.get() + scratch_bytes_ * worker, scratch_bytes_, serial_, worker, {}};
    const uint32_t end = queue_ends_[worker];
    for (uint32_t at = worker == 0 ? 0 : queue_ends_[worker - 1]; at < end; ++at) {
      const uint32_t number = queues_[at];
      const Task& task = tasks_[number];
      const Kernel& kernel = kernels_[task.kernel];
      const uint32_t* operands = operands_.data() + task.first_operand;
      const int64_t* tile = tiles_.data() + task.first_tile;
      const int64_t arrived = stamps_ ? nanoseconds() : 0;
      if (aborted()) return;
      if (!wait_all(worker, number, kernel, operands, tile)) return;
      const int64_t began = stamps_ ? nanoseconds() : 0;
      kernel.run(args_, operands, tile, scratch);
      if (scratch.fault.code != 0) return abort({kFault, worker, number, 0, 0, 0, scratch.fault});
      for (uint32_t s = 0; s < task.n_signals; ++s) signal(events_[signals_[task.first_signal + s]]);
      if (stamps_) stamps_[number] = {arrived, began, nanoseconds()};
    }
  }

  bool wait_all(uint32_t worker, uint32_t number, const Kernel& kernel, const uint32_t* operands, const int64_t* tile) {
    const Task& task = tasks_[number];
    bool asked = kernel.prefetch == nullptr;
    for (uint32_t w = 0; w < task.n_waits; ++w) {
      const Wait& wait = waits_[task.first_wait + w];
      const Event& event = events_[wait.event];
      const uint32_t target = launches_ * totals_[wait.event] + wait.value;
      uint32_t seen = event.value.load(std::memory_order_acquire);
      if (reached(seen, target)) continue;
      if (!asked) kernel.prefetch(args_, operands, tile);
      asked = true;
      Patience patience(spins_, deadline_at_);
      while (seen = event.value.load(std::memory_order_acquire), !reached(seen, target)) {
        if (aborted()) return false;
        if (!patience.pause()) {
          abort({kDeadline, worker, number, wait.event, seen, target, {}});
          return false;
        }
      }
    }
    return true;
  }

  const std::vector<Kernel> kernels_;
  const std::vector<Task> tasks_;
  const std::vector<uint32_t> operands_;
  const std::vector<int64_t> tiles_;
  const std::vector<Wait> waits_;
  const std::vector<uint32_t> signals_, totals_, queues_, queue_ends_;
  const uint32_t n_workers_, n_buffers_;
  const int64_t scratch_bytes_;
  const std::unique_ptr<Event[]> events_;
  std::unique_ptr<char, Free> scratch_;
  uint32_t spins_ = 0;

  std::atomic<int64_t> limit_{kDefaultDeadline};
  uint32_t launches_ = 0;  // modulo 2^32, since the counters were zero
  uint64_t serial_ = 0;    // of launches, aborted ones too
  bool dirty_ = false;     // a launch began and has not ended well
  Stamp* stamps_ = nullptr;
  Args args_{};
  int64_t deadline_at_ = 0;
  LaunchError error_{};
  alignas(64) std::atomic<uint32_t> raised_{0}, aborted_{0};
};

}  // namespace onelaunch
