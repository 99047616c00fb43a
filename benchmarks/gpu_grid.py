"""All rows of the GPU benchmark: ``python -m benchmarks.gpu_grid --name decode-h200 --vllm FOLDER [--seconds 3000]``.

Runs one ``benchmarks.gpu_step`` for each row, and one for vLLM at several rows, the most important first and as many
at once as cores and memory allow: they compile side by side and take turns to measure. Rows that the result file holds
with every peer are left out, so that the command can be repeated until nothing is left to do.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import result
from benchmarks.configurations import SHAPES
from benchmarks.configurations import TITLES
from benchmarks.gpu_peers import IN_PROCESS
from benchmarks.gpu_peers import VLLM

WHOLE = ("8b", "1b")  # models with the whole grid
BATCHES, CONTEXTS, LONG = (1, 2, 4, 8, 16, 32), (178, 1074), 8192
FEW = (1, 8)  # batches of the other models
SPARE = 6 << 30  # bytes of a process besides weights and cache: context, graphs, activations
FP32 = 24 << 30  # left free: one process at a time holds a model in fp32


@dataclass(frozen=True)
class Job:
    """One command: a model, batches and contexts, and who measures."""

    shape: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    peers: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """GPU memory that it takes, roughly."""
        values = SHAPES[self.shape]
        hidden, layers, groups = (values[k] for k in ("hidden_size", "num_hidden_layers", "num_key_value_heads"))
        width = (values["num_attention_heads"] + groups) * values["head_dim"]
        layer = 2 * hidden * width + 3 * hidden * values["intermediate_size"]
        weights = 2 * (layers * layer + 2 * values["vocab_size"] * hidden)
        cached = max(self.batches) * sum(c + 256 for c in self.contexts) * layers * groups * values["head_dim"] * 4
        return int(weights + 1.25 * cached) + SPARE

    def command(self, given: argparse.Namespace) -> list[str]:
        """What to run."""
        words = [sys.executable, "-m", "benchmarks.gpu_step", "--shapes", self.shape, "--name", given.name]
        for option, values in (("--batch", self.batches), ("--context", self.contexts), ("--peers", self.peers)):
            words += [option, ",".join(map(str, values))]
        return words + (["--vllm", given.vllm] if VLLM in self.peers else [])

    def done(self, rows: dict[tuple[Any, ...], set[str]]) -> bool:
        """Whether all its rows have all peers."""
        points = [(TITLES[self.shape], b, c) for b in self.batches for c in self.contexts]
        return all({*IN_PROCESS, VLLM} <= rows.get(point, set()) for point in points)


def jobs() -> Iterator[Job]:
    """The whole grid, the most important rows first."""
    own = tuple(IN_PROCESS)
    others = [shape for shape in SHAPES if shape not in WHOLE]
    for shape in (*WHOLE, *others):
        yield Job(shape, BATCHES if shape in WHOLE else FEW, CONTEXTS, (VLLM,))
        yield Job(shape, (1,), CONTEXTS[:1], own)
    yield from (Job(shape, (b,), (c,), own) for c in CONTEXTS for b in FEW for shape in SHAPES if (b, c) != (1, 178))
    yield from (Job(s, (b,), (c,), own) for c in CONTEXTS for s in WHOLE for b in BATCHES if b not in FEW)
    for shape in WHOLE:
        yield Job(shape, BATCHES, (LONG,), (VLLM,))
        yield from (Job(shape, (b,), (LONG,), own) for b in BATCHES)


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing until it is done or the time is over; 1 where a command failed or something is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_grid", description=__doc__)
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--vllm", metavar="FOLDER", required=True, help="where vLLM's packages lie")
    parser.add_argument("--seconds", type=float, default=3000.0, help="when to stop (%(default)s)")
    given = parser.parse_args(arguments)
    stored = _stored(given.name)
    waiting = [job for job in jobs() if not job.done(stored)]
    room = torch.cuda.get_device_properties(0).total_memory - FP32
    failed = _run(waiting, given, room, time.monotonic() + given.seconds)
    return 1 if failed or waiting else 0


def _stored(name: str) -> dict[tuple[Any, ...], set[str]]:
    """The peers that have times, by row."""
    path = result.FOLDER / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return {
        (row["model"], row["batch"], row["context"]): {p for p, f in row["peers"].items() if "failure" not in f}
        for row in rows
    }


def _run(waiting: list[Job], given: argparse.Namespace, room: int, end: float) -> int:
    """Take jobs from ``waiting`` and run them; how many failed."""
    most = max(1, len(os.sched_getaffinity(0)) - 1)
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # the processes themselves are enough
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failed = 0
    while (waiting or running) and time.monotonic() < end:
        used = sum(job.bytes for job in running)
        fitting = [job for job in waiting if not running or used + job.bytes <= room]
        if fitting and len(running) < most:
            waiting.remove(fitting[0])
            running[fitting[0]] = subprocess.Popen(fitting[0].command(given), env=environment, start_new_session=True)
            continue
        time.sleep(0.2)
        for job in [job for job, process in running.items() if process.poll() is not None]:
            failed += running.pop(job).returncode != 0
    for process in running.values():  # each leads a session of its own, with vLLM in it
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return failed + len(running)


if __name__ == "__main__":
    sys.exit(main())
