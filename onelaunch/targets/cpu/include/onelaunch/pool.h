// The process's worker threads. They exist to be woken: between launches each is parked on its own condition variable.
//
// One launch at a time leases the pool; other callers wait their turn (two launches at once would only fight for the
// cores). The calling thread is worker 0. A forked child has none of its parent's threads, so it notices the new
// process number and begins with a pool of its own; the parent's is left alone.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "event.h"
#include "task.h"

namespace onelaunch {

class Pool {
 public:
  using Body = void (*)(void* context, uint32_t worker);

  Pool() : process_(getpid()) {}
  Pool(const Pool&) = delete;

  // The pool of this process; never freed, because a thread that outlives main() may still hold it.
  static Pool& current() {
    Pool* found = instance().load(std::memory_order_acquire);
    while (found == nullptr || found->process_ != getpid()) {
      Pool* fresh = new Pool;
      if (instance().compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) return *fresh;
      delete fresh;
    }
    return *found;
  }

  // Joins the threads of this process, after the launch that runs; later launches are refused.
  static void shutdown() {
    Pool* found = instance().load(std::memory_order_acquire);
    if (found == nullptr || found->process_ != getpid()) return;
    std::lock_guard<std::mutex> lease(found->lease_);
    found->stopped_ = true;
    for (auto& slot : found->slots_) {
      slot->post(kStop);
      slot->thread.join();
    }
    found->slots_.clear();
  }

  std::mutex& lease() { return lease_; }

  // Runs body(context, worker) for every worker below `workers` at once. The caller holds the lease.
  Status run(uint32_t workers, Body body, void* context) {
    if (stopped_) return kShutdown;
    if (!grow(workers)) return kThreads;
    body_ = body;
    context_ = context;
    workers_ = workers;
    remaining_.store(workers - 1, std::memory_order_relaxed);  // published by the slots' mutexes
    wake_children(0);
    body(context, 0);
    Patience patience(kJoinSpins, INT64_MAX);
    while (remaining_.load(std::memory_order_acquire) != 0) patience.pause();
    return kOk;
  }

 private:
  enum Message : uint32_t { kNone, kWork, kStop };
  static constexpr uint32_t kJoinSpins = 2000;

  struct alignas(64) Slot {
    std::mutex mutex;
    std::condition_variable posted;
    Message message = kNone;
    std::thread thread;

    void post(Message what) {
      {
        std::lock_guard<std::mutex> lock(mutex);
        message = what;
      }
      posted.notify_one();
    }
    Message receive() {
      std::unique_lock<std::mutex> lock(mutex);
      posted.wait(lock, [this] { return message != kNone; });
      const Message what = message;
      message = kNone;
      return what;
    }
  };

  static std::atomic<Pool*>& instance() {
    static std::atomic<Pool*> pool{nullptr};
    return pool;
  }

  // Worker w wakes 2w+1 and 2w+2: waking costs microseconds, so it is shared out.
  void wake_children(uint32_t worker) {
    for (uint32_t child = 2 * worker + 1; child <= 2 * worker + 2 && child < workers_; ++child)
      slots_[child - 1]->post(kWork);
  }

  void serve(uint32_t worker, Slot& slot) {
    while (slot.receive() == kWork) {
      wake_children(worker);
      body_(context_, worker);
      remaining_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  // The workers take no signals: those are for the application's own threads.
  bool grow(uint32_t workers) {
    sigset_t all, before;
    sigfillset(&all);
    bool grown = true;
    if (slots_.size() + 1 >= workers) return true;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (grown && slots_.size() + 1 < workers) {
      auto slot = std::make_unique<Slot>();
      Slot& kept = *slot;
      const uint32_t worker = uint32_t(slots_.size()) + 1;
      try {
        slot->thread = std::thread([this, worker, &kept] { serve(worker, kept); });
        slots_.push_back(std::move(slot));
      } catch (const std::system_error&) {
        grown = false;
      }
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return grown;
  }

  const pid_t process_;
  std::mutex lease_;
  bool stopped_ = false;
  std::vector<std::unique_ptr<Slot>> slots_;
  Body body_ = nullptr;
  void* context_ = nullptr;
  uint32_t workers_ = 0;
  alignas(64) std::atomic<uint32_t> remaining_{0};
};

}  // namespace onelaunch
