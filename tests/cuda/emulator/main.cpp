// The scheduler, and launches of the program that is included: emulate(launches, their number, seed, steps). ENTRIES are
// its entry points, of blocks of BLOCK threads.
#include <algorithm>

#include PROGRAM

namespace emulator {

World world;
constexpr unsigned kBlock = BLOCK, kWarps = kBlock / 32;
static void (*const entries[])(onelaunch::Launch) = {ENTRIES};

void yield() {
  Fiber* const self = world.current;
  swapcontext(&self->context, &world.scheduler);
}

void meet(Group& group) {
  if (++group.come == group.size) {
    group.come = 0;
    ++group.generation;
  } else {
    world.current->awaited = &group.generation;
    world.current->seen = group.generation;
  }
  yield();
}

static void start() {
  const Grid& grid = *world.current->block->grid;
  entries[grid.entry](*static_cast<const onelaunch::Launch*>(grid.launch));
  world.current->done = true;
  yield();
}

// A copy arrives, whichever the engine likes.
static void deliver() {
  const size_t which = world.random() % world.copies.size();
  const Copy copy = world.copies[which];
  world.copies.erase(world.copies.begin() + which);
  std::memcpy(copy.to, copy.from, copy.bytes);
  onelaunch::State& s = onelaunch::state(*static_cast<onelaunch::Barrier*>(copy.barrier));
  s.bytes -= int(copy.bytes);
  onelaunch::settle(s);
}

// Every fourth warp or so is slow.
static std::unique_ptr<Block> block_of(Grid& grid, unsigned number) {
  auto block = std::make_unique<Block>();
  block->grid = &grid;
  block->index = {number};
  block->memory.reset(new (std::align_val_t(128)) char[grid.shared]);
  std::memset(block->memory.get(), 0xFF, grid.shared);  // NaN
  block->all.size = kBlock;
  block->computing.size = onelaunch::kThreads;
  block->warps.assign(kWarps, Group{32});
  for (unsigned w = 0; w < kWarps; ++w) block->speed.push_back(world.random() % 4 ? 1.0 : 0.02);
  return block;
}

static std::unique_ptr<Fiber> fiber_of(Block& block, unsigned thread) {
  constexpr size_t kStack = 64 << 10;
  auto fiber = std::make_unique<Fiber>();
  fiber->stack.reset(new char[kStack]);
  fiber->block = &block;
  fiber->thread = {thread};
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack.get();
  fiber->context.uc_stack.ss_size = kStack;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, start, 0);
  return fiber;
}

static void begin(Grid& grid) {
  grid.running = kBlock * grid.blocks;
  for (unsigned b = 0; b < grid.blocks; ++b) {
    world.blocks.push_back(block_of(grid, b));
    for (unsigned t = 0; t < kBlock; ++t) world.fibers.push_back(fiber_of(*world.blocks.back(), t));
  }
}

static bool may_begin(const Grid& grid) {
  if (&grid == world.grids || grid.overlaps == 0) return world.fibers.empty();
  const Grid& before = *(&grid - 1);
  return before.saying == before.blocks && (world.fibers.empty() || world.random() % 256 == 0);
}

static void end(const Grid& grid) {
  auto& all = world.fibers;
  all.erase(std::remove_if(all.begin(), all.end(), [&](auto& f) { return f->block->grid == &grid; }), all.end());
}

// Somebody who can go on, where the dice let him.
static Fiber* choose() {
  const size_t first = world.random() % world.fibers.size();
  for (size_t i = 0; i < world.fibers.size(); ++i) {
    Fiber& f = *world.fibers[(first + i) % world.fibers.size()];
    if (f.done || (f.awaited != nullptr && *f.awaited == f.seen)) continue;
    if (double(world.random() % 1000) < 1000 * f.block->speed[f.thread.x / 32]) return &f;
  }
  return nullptr;
}

static int run(unsigned count, uint64_t steps) {
  unsigned next = 0;
  for (uint64_t step = 0; step < steps; ++step) {
    if (next < count && may_begin(world.grids[next])) begin(world.grids[next++]);
    if (world.fibers.empty()) return 0;
    if (!world.copies.empty() && world.random() % 64 == 0) deliver();
    Fiber* const chosen = choose();
    if (chosen == nullptr) continue;
    chosen->awaited = nullptr;
    world.current = chosen;
    swapcontext(&world.scheduler, &chosen->context);
    Grid& grid = *chosen->block->grid;
    if (chosen->done && --grid.running == 0) end(grid);
  }
  return 1;
}

}  // namespace emulator

// 0: the launches ended; 1: they had not after so many steps.
extern "C" int emulate(emulator::Grid* grids, unsigned count, uint64_t seed, uint64_t steps) {
  using namespace emulator;
  world = World();
  world.random.seed(seed);
  world.grids = grids;
  const int status = run(count, steps);
  for (auto& block : world.blocks) ::operator delete[](block->memory.release(), std::align_val_t(128));
  return status;
}
