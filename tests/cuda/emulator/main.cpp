// The scheduler, and one launch of the program that is included: emulate(entry, launch, blocks, shared bytes, seed, steps).
// ENTRIES are its entry points, of blocks of BLOCK threads.
#include PROGRAM

namespace emulator {

World world;
constexpr unsigned kBlock = BLOCK, kWarps = kBlock / 32;
static void (*const entries[])(onelaunch::Launch) = {ENTRIES};
static void (*entry)(onelaunch::Launch);

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
  world.body(world.argument);
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

static int run(uint64_t steps) {
  std::vector<Fiber*> ready;
  for (uint64_t step = 0;; ++step) {
    if (step == steps) return 1;
    if (!world.copies.empty() && world.random() % 64 == 0) deliver();
    ready.clear();
    bool left = false;
    const size_t first = world.random() % world.fibers.size();
    Fiber* chosen = nullptr;
    for (size_t i = 0; i < world.fibers.size() && chosen == nullptr; ++i) {
      Fiber& f = *world.fibers[(first + i) % world.fibers.size()];
      left |= !f.done;
      if (f.done || (f.awaited != nullptr && *f.awaited == f.seen)) continue;
      const double speed = world.speed[(f.block->index.x * kWarps + f.thread.x / 32) % world.speed.size()];
      if (double(world.random() % 1000) < 1000 * speed) chosen = &f;
    }
    if (chosen == nullptr) {
      if (!left) return 0;
      continue;
    }
    chosen->awaited = nullptr;
    world.current = chosen;
    swapcontext(&world.scheduler, &chosen->context);
  }
}

}  // namespace emulator

// 0: the launch ended; 1: it had not after so many steps. Every fourth warp or so is slow.
extern "C" int emulate(unsigned number, const onelaunch::Launch* launch, unsigned blocks, unsigned shared, uint64_t seed,
                       uint64_t steps) {
  using namespace emulator;
  world = World();
  entry = entries[number];
  world.random.seed(seed);
  world.blocks_of_grid = blocks;
  world.body = [](const void* p) { entry(*static_cast<const onelaunch::Launch*>(p)); };
  world.argument = launch;
  for (unsigned w = 0; w < kWarps * blocks; ++w) world.speed.push_back(world.random() % 4 ? 1.0 : 0.02);
  for (unsigned b = 0; b < blocks; ++b) {
    auto block = std::make_unique<Block>();
    block->index = {b};
    block->memory.reset(new (std::align_val_t(128)) char[shared]);
    std::memset(block->memory.get(), 0xFF, shared);  // NaN
    block->all.size = kBlock;
    block->computing.size = onelaunch::kThreads;
    block->warps.assign(kWarps, Group{32});
    for (unsigned t = 0; t < kBlock; ++t) {
      auto fiber = std::make_unique<Fiber>();
      constexpr size_t kStack = 64 << 10;
      fiber->stack.reset(new char[kStack]);
      fiber->block = block.get();
      fiber->thread = {t};
      getcontext(&fiber->context);
      fiber->context.uc_stack.ss_sp = fiber->stack.get();
      fiber->context.uc_stack.ss_size = kStack;
      fiber->context.uc_link = nullptr;
      makecontext(&fiber->context, start, 0);
      world.fibers.push_back(std::move(fiber));
    }
    world.blocks.push_back(std::move(block));
  }
  const int status = run(steps);
  for (auto& block : world.blocks) ::operator delete[](block->memory.release(), std::align_val_t(128));
  return status;
}
