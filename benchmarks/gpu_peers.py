"""The peers of a decode step on a GPU: how each is called, and vLLM in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import torch

from benchmarks import vllm_peer
from benchmarks.gpu_model import Call
from benchmarks.gpu_model import Step
from benchmarks.gpu_timing import time_replays
from benchmarks.rounds import Timing

OURS = "onelaunch"
VLLM = "vLLM"
OPS = "op by op"  # our tasks as ordinary kernels, one an op
IN_PROCESS = {
    OURS: ("layers", "step"), OPS: ("layers", "step"), "eager": ("layers", "step"), "Inductor": ("step",),
}  # fmt: skip
PATIENCE = 500.0  # seconds that vLLM may take to start and measure


@dataclass
class Measured:
    """One peer at one point, by part: what it gave and how long it took; or why it did not run."""

    timings: dict[str, Timing] = field(default_factory=dict)
    results: dict[str, torch.Tensor] = field(default_factory=dict)
    compile_seconds: float = 0.0
    version: str = ""
    failure: str = ""


def calls_of(name: str, step: Step, target: str) -> dict[str, Call]:
    """The peer's call for each part; what is compiled is compiled at its first call."""
    return {part: _compiled(name, step.call_of(part), target) for part in IN_PROCESS[name]}


def _compiled(name: str, module: Any, target: str) -> Call:
    if name == "eager":
        found: Call = module
        return found
    if name == "Inductor":
        return torch.compile(module, backend="inductor", fullgraph=True, dynamic=False)
    from onelaunch.frontend.backend import backend

    options: dict[str, Any] = {"target": target, "fallback": "error", "cache": False}
    options["launch"] = "graph" if name == OPS else "one"
    return torch.compile(module, backend=backend, fullgraph=True, dynamic=False, options=options)


@torch.no_grad()
def prepare(name: str, step: Step, target: str = "cuda") -> tuple[dict[str, Call], Measured]:
    """Compile the peer and take its results."""
    made = Measured()
    calls: dict[str, Call] = {}
    try:
        calls = calls_of(name, step, target)
        start = time.perf_counter()
        for part, call in calls.items():
            step.rewind()
            step.run(call)
            made.compile_seconds = time.perf_counter() - start
            made.results[part] = step.along(call)
    except Exception as error:  # noqa: BLE001  whatever a peer raises is stated in its row
        made.failure = _first_line(error)
    return calls, made


@torch.no_grad()
def measure(calls: dict[str, Call], step: Step, made: Measured, replays: int) -> None:
    """Time what ``prepare`` has made."""
    for part in made.results:
        call = calls[part]
        try:
            made.timings[part] = time_replays(lambda call=call: step.run(call), step.rewind, replays)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001
            made.failure = _first_line(error)


def run_vllm(folder: str, shape: str, points: list[tuple[int, int]], layers: int | None) -> dict[Any, Measured]:
    """vLLM's decode replays at all points of a model, from one start; ``folder``: where its packages lie."""
    listed = ",".join(f"{batch}x{context}" for batch, context in points)
    command = [sys.executable, "-m", vllm_peer.__name__, "--shape", shape, "--points", listed]
    command += [] if layers is None else ["--layers", str(layers)]
    paths = [folder, str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    failure = ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"version"')]
        if lines:
            found = json.loads(lines[-1])
            return {
                point: Measured({"layers": Timing(tuple(found["seconds"]["x".join(map(str, point))]))},
                                version=found["version"])
                for point in points
            }  # fmt: skip
        print(done.stderr[-4000:], file=sys.stderr)
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        failure = said[-1].strip() if said else f"ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        failure = f"not done after {PATIENCE:.0f} s"
    return {point: Measured(failure=failure[:300]) for point in points}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
