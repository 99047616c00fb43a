"""Where the time of one launch goes, op by op: ``python -m benchmarks.gpu_timeline --shape 135m [--context 178]``.

Each task's times are taken inside the kernel (32 ns resolution). A row is one kernel of the program, over all its ops:
``step`` is by how much an op's last signal comes after that of the op before it in time, so the steps add up to the
launch; ``seen`` is from the last signal that a task waits for to its beginning; ``run`` and ``signal`` are its own.
``--out PATH`` writes the last launch as ``onelaunch trace`` does: PATH.json for Perfetto and PATH.svg.
"""

from __future__ import annotations

import argparse
import collections
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.configurations import configuration
from benchmarks.gpu_model import Step
from benchmarks.gpu_model import random_model
from onelaunch.cli.trace import write
from onelaunch.frontend import stats
from onelaunch.frontend.backend import backend
from onelaunch.program.program import Program
from onelaunch.runtime.recorder import Recorder


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_timeline", description=__doc__)
    parser.add_argument("--shape", default="135m")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--context", type=int, default=178)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    step = Step(random_model(configuration(given.shape, given.layers)), given.batch, given.context)
    settings: dict[str, Any] = {"target": "cuda", "fallback": "error", "cache": False}
    call = torch.compile(step.model, backend=backend, fullgraph=True, options=settings)
    step.rewind()
    step.run(call)
    binding: Any = [b for r in stats.records() for s in r.live for b in getattr(s, "bindings", ())][-1]
    stamps = binding.executable.trace()
    for _ in range(5):
        step.rewind()
        step.run(call)
    binding.executable.synchronize()
    print_table(binding.program, stamps.cpu())
    if given.out is not None:
        recorded = Recorder(binding.executable, fresh=False).take()
        assert recorded is not None, "five launches have just been recorded"
        print("written:", *write(recorded, given.out, f"shape {given.shape}, batch {given.batch}, at {given.context}"))
    return 0


def print_table(program: Program, stamps: torch.Tensor) -> None:
    """One line a kernel."""
    arrived, began, ended, signalled = stamps.T.tolist()
    start = min(arrived)
    last: dict[int, int] = {}
    for n, task in enumerate(program.tasks):
        last[task.op] = max(last.get(task.op, 0), signalled[n])
    signallers: dict[int, list[int]] = collections.defaultdict(list)
    for n, task in enumerate(program.tasks):
        for event in task.signals:
            signallers[event].append(n)
    order = sorted(last, key=last.__getitem__)
    steps = {op: last[op] - (last[order[i - 1]] if i else start) for i, op in enumerate(order)}
    kernel_of = {task.op: task.kernel for task in program.tasks}
    rows: dict[int, dict[str, list[float]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for op, value in steps.items():
        rows[kernel_of[op]]["step"].append(value)
    for n, task in enumerate(program.tasks):
        row = rows[task.kernel]
        ready = max((signalled[s] for e, _ in task.waits for s in signallers[e]), default=start)
        row["seen"].append(began[n] - max(ready, arrived[n]))
        row["run"].append(ended[n] - began[n])
        row["signal"].append(signalled[n] - ended[n])
    print(f"{len(program.tasks)} tasks, {len(program.ops)} ops, {(max(signalled) - start) / 1e3:.1f} us in all")
    print("| kernel | example | ops | tasks an op | step us, total | step ns | seen ns | run ns (most) | signal ns |")
    for kernel, row in sorted(rows.items(), key=lambda item: -sum(item[1]["step"])):
        op = next(o for o, k in kernel_of.items() if k == kernel)
        ops, tasks = len(row["step"]), len(row["run"])
        step, seen, run, signal = (round(statistics.mean(row[n])) for n in ("step", "seen", "run", "signal"))
        print(
            f"| {kernel} | {program.ops[op][:44]} | {ops} | {tasks / ops:.0f} | {sum(row['step']) / 1e3:.1f} | "
            f"{step} | {seen} | {run} ({max(row['run']):.0f}) | {signal} |"
        )


if __name__ == "__main__":
    sys.exit(main())
