"""A program as one C++ file with its own ``main``: for sanitizers, debuggers and profilers, without Python.

    python -m onelaunch.targets.cpu.standalone program.onelaunch > program.cpp
    g++ -std=c++17 -O1 -g -march=native -fopenmp-simd -pthread -fsanitize=thread -I.../include program.cpp && ./a.out 20

The main allocates every buffer (floats of moderate size, integers 0, so that every index is valid), launches the
program as often as its argument says, and prints "ok", or why a launch ended early. Symbols have their largest values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from onelaunch.program.program import Program
from onelaunch.targets.cpu.emit import generate

_MAIN = """
using namespace onelaunch;

namespace {{

{tables}

struct Memory {{
  int64_t bytes;
  bool floats32;
}};
const Memory memories[] = {{{memories}}};

}}  // namespace

int main(int argc, char** argv) {{
  const int launches = argc > 1 ? std::atoi(argv[1]) : 20;
  const Kernel kernels[] = {{{kernels}}};
  Tables t = {{}};
  t.kernels = kernels;
  t.tasks = reinterpret_cast<const Task*>(tasks);
  t.operands = operands;
  t.tiles = tiles;
  t.waits = reinterpret_cast<const Wait*>(waits);
  t.signals = signals;
  t.totals = totals;
  t.queues = queues;
  t.queue_ends = queue_ends;
  {counts}
  std::vector<std::vector<char>> own;
  std::vector<void*> buffers;
  std::vector<char> workspace({workspace} + 64, 0);
  char* const aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64);
  const int64_t offsets[] = {{{offsets}}};
  for (size_t b = 0; b < sizeof(memories) / sizeof(*memories); ++b) {{
    if (offsets[b] >= 0) {{
      buffers.push_back(aligned + offsets[b]);
      continue;
    }}
    own.emplace_back(memories[b].bytes + 64, 0);
    if (memories[b].floats32)
      for (int64_t i = 0; i < memories[b].bytes / 4; ++i)
        reinterpret_cast<float*>(own.back().data())[i] = 0.01f * float((i * 37) % 101 - 50);
    buffers.push_back(own.back().data());
  }}
  const int64_t symbols[] = {{{symbols}}};
  std::string why;
  auto engine = Engine::create(t, why);
  if (!engine) {{
    std::printf("refused: %s\\n", why.c_str());
    return 1;
  }}
  for (int n = 0; n < launches; ++n) {{
    const LaunchError error = engine->launch(buffers.data(), symbols);
    if (error.status != kOk) {{
      std::printf("launch %d ended early: status %d, worker %u, task %u, event %u at %u, awaited %u\\n", n,
                  error.status, error.worker, error.task, error.event, error.seen, error.awaited);
      return 1;
    }}
  }}
  engine.reset();
  Pool::shutdown();
  std::printf("ok\\n");
  return 0;
}}
"""


def standalone(program: Program) -> str:
    """The C++ source; compile it with the include folder of the CPU target."""
    source = generate(program)
    run = [f"onelaunch_run_{n}" for n in range(len(program.kernels))]
    fetch = [f"onelaunch_prefetch_{n}" if c.prefetch else "nullptr" for n, c in enumerate(source.kernels)]
    arrays, sizes = _tables(program)
    counts = {
        "n_kernels": len(program.kernels), "n_tasks": len(program.tasks), "n_operands": sizes["operands"],
        "n_tiles": sizes["tiles"], "n_waits": sizes["waits"] // 2, "n_signals": sizes["signals"],
        "n_events": len(program.events), "n_queued": sizes["queues"], "n_workers": len(program.queues),
        "n_buffers": len(program.buffers), "scratch_bytes": source.scratch,
    }  # fmt: skip
    main = _MAIN.format(
        tables="\n".join(arrays),
        memories=", ".join(f"{{{b.nbytes}, {str(b.dtype == 'f32').lower()}}}" for b in program.buffers),
        kernels=", ".join(f"{{{r}, {p}}}" for r, p in zip(run, fetch, strict=True)),
        counts="\n  ".join(f"t.{name} = {value};" for name, value in counts.items()),
        workspace=program.workspace,
        offsets=", ".join(str(b.offset if b.role == "workspace" else -1) for b in program.buffers),
        symbols=", ".join(str(s.maximum) for s in program.symbols) or "0",
    )
    head = "".join(f"#include <{h}>\n" for h in ("cstdio", "cstdlib", "string", "vector"))
    return f'{head}#include "onelaunch/engine.h"\n{source.text()}{main}'


def _tables(program: Program) -> tuple[list[str], dict[str, int]]:
    """The runtime's tables as C++ arrays (task.h), and the length of each."""
    words: dict[str, list[int]] = {
        n: [] for n in ("tasks", "operands", "waits", "signals", "totals", "queues", "queue_ends", "tiles")
    }
    for task in program.tasks:
        words["tasks"] += (
            task.kernel, len(words["operands"]), len(words["tiles"]), len(words["waits"]) // 2, len(task.waits),
            len(words["signals"]), len(task.signals), task.op,
        )  # fmt: skip
        words["operands"] += task.operands
        words["waits"] += (w for pair in task.waits for w in pair)
        words["signals"] += task.signals
        words["tiles"] += (bound for span in task.tile for bound in span)
    words["totals"] += (e.total for e in program.events)
    for queue in program.queues:
        words["queues"] += queue
        words["queue_ends"].append(len(words["queues"]))
    arrays = [_array("int64_t" if n == "tiles" else "uint32_t", n, v) for n, v in words.items()]
    return arrays, {n: len(v) for n, v in words.items()}


def _array(kind: str, name: str, values: Iterable[int]) -> str:
    return f"alignas(8) const {kind} {name}[] = {{{', '.join(map(str, values)) or '0'}}};"


if __name__ == "__main__":
    from onelaunch.program.file import load

    sys.stdout.write(standalone(load(sys.argv[1])))
