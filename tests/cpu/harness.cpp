// Launches synthetic programs, checks every result, and prints "ok". Run plain and under ThreadSanitizer: the cells are
// ordinary memory, so an event that fails to order two tasks is a data race.
//   harness storm|wrap|abort|fault|callers|fork|crowd
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "../../onelaunch/targets/cpu/runtime.cpp"

#define REQUIRE(condition)                                                  \
  do {                                                                      \
    if (!(condition)) {                                                     \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                        \
    }                                                                       \
  } while (0)

namespace {

// tile: output cell, number of inputs, input cells. The cell's new value depends on the inputs' and the launch's.
void mix(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  auto* cells = static_cast<int64_t*>(args.buffers[operands[0]]);
  uint64_t value = uint64_t(args.symbols[0]) * 31 + uint64_t(tile[0]);
  for (int64_t i = 0; i < tile[1]; ++i) value = value * 0x9E3779B97F4A7C15u + uint64_t(cells[tile[2 + i]]);
  cells[tile[0]] = int64_t(value);
  for (int64_t i = 0; i < scratch.bytes; i += 64) scratch.data[i] = char(value);
}

void refuse(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  if (args.symbols[0] == 13) {
    scratch.fault = {7, 0, tile[0]};
    return;
  }
  mix(args, operands, tile, scratch);
}

void touch(const Args& args, const uint32_t* operands, const int64_t*) {
  __builtin_prefetch(args.buffers[operands[0]]);
}

const Kernel kernels[] = {{mix, nullptr}, {mix, touch}, {refuse, nullptr}};

// Layers of tasks. A task reads cells of the layer before and waits for the events that stand for them; an event
// stands for a random group of tasks of a layer.
struct Synthetic {
  std::vector<Task> tasks;
  std::vector<uint32_t> operands{0}, signals, totals, queues, ends;
  std::vector<int64_t> tiles;
  std::vector<Wait> waits;
  uint32_t cells = 0, workers;

  Synthetic(uint32_t seed, uint32_t layers, uint32_t width, uint32_t n_workers, uint32_t kernel = 1)
      : workers(n_workers) {
    std::mt19937 random(seed);
    std::vector<std::vector<uint32_t>> queue(workers);
    uint32_t before_cell = 0, before_event = 0, before_width = 0, before_events = 0;
    for (uint32_t layer = 0; layer < layers; ++layer) {
      const uint32_t n = 1 + random() % width, n_events = 1 + random() % 3;
      const uint32_t first_event = uint32_t(totals.size());
      totals.resize(totals.size() + n_events);
      for (uint32_t i = 0; i < n; ++i) {
        Task task{kernel, 0, uint32_t(tiles.size()), uint32_t(waits.size()), 0, uint32_t(signals.size()), 1, layer};
        tiles.push_back(cells + i);
        tiles.push_back(before_width);
        for (uint32_t j = 0; j < before_width; ++j) tiles.push_back(before_cell + j);
        for (uint32_t e = 0; e < before_events; ++e) waits.push_back({before_event + e, totals[before_event + e]});
#ifndef ONELAUNCH_TEST_IGNORE_WAITS  // the positive control of the sanitizer run
        task.n_waits = before_events;
#endif
        const uint32_t event = first_event + random() % n_events;
        signals.push_back(event);
        ++totals[event];
        queue[random() % workers].push_back(uint32_t(tasks.size()));
        tasks.push_back(task);
      }
      before_cell = cells, before_width = n, before_event = first_event, before_events = n_events;
      cells += n;
    }
    for (auto& q : queue) {
      queues.insert(queues.end(), q.begin(), q.end());
      ends.push_back(uint32_t(queues.size()));
    }
  }

  Tables tables() const {
    return {kernels, tasks.data(), operands.data(), tiles.data(), waits.data(), signals.data(), totals.data(),
            queues.data(), ends.data(), 3, uint32_t(tasks.size()), uint32_t(operands.size()), uint32_t(tiles.size()),
            uint32_t(waits.size()), uint32_t(signals.size()), uint32_t(totals.size()), uint32_t(queues.size()),
            workers, 1, 256};
  }

  std::vector<int64_t> expected(int64_t symbol) const {
    std::vector<int64_t> result(cells);
    void* buffers[] = {result.data()};
    Scratch none{};
    for (const Task& task : tasks) mix({buffers, &symbol}, operands.data(), tiles.data() + task.first_tile, none);
    return result;
  }
};

struct Running {
  Synthetic program;
  void* handle;
  std::vector<int64_t> cells;
  LaunchError error{};

  explicit Running(Synthetic s) : program(std::move(s)), cells(program.cells) {
    const Tables tables = program.tables();
    handle = onelaunch_create(&tables);
    if (handle == nullptr) std::fprintf(stderr, "%s\n", onelaunch_last_error());
    REQUIRE(handle != nullptr);
  }
  ~Running() { onelaunch_destroy(handle); }

  int32_t launch(int64_t symbol) {
    void* buffers[] = {cells.data()};
    return onelaunch_launch(handle, buffers, &symbol, &error);
  }
  void check(int64_t symbol) {
    std::fill(cells.begin(), cells.end(), -1);
    REQUIRE(launch(symbol) == kOk);
    REQUIRE(cells == program.expected(symbol));
  }
};

void storm(int launches) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    Running running(Synthetic(seed, 60, 12, 1 + seed));
    for (int i = 0; i < launches; ++i) running.check(i);
  }
}

// For the build without waits: results are wrong there, and are not looked at.
void race() {
  Running running(Synthetic(3, 60, 12, 3));
  for (int i = 0; i < 10; ++i) running.launch(i);
}

void wrap() {
  Running running(Synthetic(3, 30, 9, 3));
  for (uint32_t launches : {0xFFFFFFFDu, 0x7FFFFFFEu, 0x24924923u, 0x2AAAAAA8u}) {
    onelaunch_set_counters(running.handle, launches);
    for (int i = 0; i < 20; ++i) running.check(i);
  }
}

// An event that nothing signals in time: the task that signals it comes after its waiter in the same queue.
void abort_and_recover() {
  Synthetic s(1, 2, 1, 2, 0);
  std::swap(s.queues[0], s.queues[1]);
  s.ends = {2, 2};
  s.queues = {1, 0};
  Running stuck(s);
  Running healthy(Synthetic(5, 20, 8, 2));
  onelaunch_set_deadline(stuck.handle, 50'000'000);
  for (int i = 0; i < 3; ++i) {
    const int64_t began = nanoseconds();
    REQUIRE(stuck.launch(i) == kDeadline);
    REQUIRE(nanoseconds() - began > 40'000'000);
    REQUIRE(stuck.error.worker == 0 && stuck.error.task == 1);
    REQUIRE(stuck.error.seen + 1 == stuck.error.awaited);
    healthy.check(i);
  }
}

void fault_and_recover() {
  Running running(Synthetic(2, 25, 6, 3, 2));
  for (int i = 0; i < 30; ++i) {
    if (i % 3 == 1) {
      REQUIRE(running.launch(13) == kFault);
      REQUIRE(running.error.fault.code == 7);
    } else {
      running.check(i);
    }
  }
}

void callers() {
  std::vector<std::thread> threads;
  for (uint32_t id = 0; id < 4; ++id)
    threads.emplace_back([id] {
      Running own(Synthetic(id, 20, 6, 1 + id));
      for (int i = 0; i < 40; ++i) own.check(i);
    });
  for (auto& thread : threads) thread.join();
}

// The parent has threads and is launching from another one while the children are made.
void forks() {
  Running running(Synthetic(4, 20, 6, 3));
  running.check(1);
  std::thread busy([&] {
    Running other(Synthetic(6, 20, 6, 3));
    for (int i = 0; i < 300; ++i) other.check(i);
  });
  for (int child = 0; child < 8; ++child) {
    const pid_t process = fork();
    if (process == 0) {
      for (int i = 0; i < 5; ++i) running.check(i);
      std::exit(0);
    }
    int status = -1;
    waitpid(process, &status, 0);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    running.check(child);
  }
  busy.join();
}

void crowd() {
  Running running(Synthetic(8, 40, 40, 24));
  for (int i = 0; i < 20; ++i) running.check(i);
}

void refuses() {
  const auto why = [](auto change) {
    Synthetic s(1, 5, 4, 2);
    change(s);
    const Tables tables = s.tables();
    REQUIRE(onelaunch_create(&tables) == nullptr);
    REQUIRE(*onelaunch_last_error() != 0);
  };
  why([](Synthetic& s) { s.tasks[0].kernel = 9; });
  why([](Synthetic& s) { s.waits[0].event = 1000; });
  why([](Synthetic& s) { s.waits[0].value = 1000; });
  why([](Synthetic& s) { s.signals[0] = 1000; });
  why([](Synthetic& s) { s.totals[0] += 1; });
  why([](Synthetic& s) { s.queues[0] = s.queues[1]; });
  why([](Synthetic& s) { s.queues[0] = 1000; });
  why([](Synthetic& s) { s.operands[0] = 1; });
  why([](Synthetic& s) { s.ends[1] = 1000; });
  why([](Synthetic& s) { s.tasks[1].n_waits = 1000; });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "storm") storm(argc > 2 ? std::atoi(argv[2]) : 50);
  else if (what == "race") race();
  else if (what == "wrap") wrap();
  else if (what == "abort") abort_and_recover();
  else if (what == "fault") fault_and_recover();
  else if (what == "callers") callers();
  else if (what == "fork") forks();
  else if (what == "crowd") crowd();
  else if (what == "refuse") refuses();
  else return 2;
  std::puts("ok");
}
