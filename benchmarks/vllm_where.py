"""Where the wall time of vLLM's decode steps goes: host time by part of a step, and GPU time beside it.

An engine in this process only. A part's time is that of its functions without the parts they call. vLLM gives a step
to the GPU before it waits for the one before, so what the GPU takes shows where the host waits for it: ``wait``.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

STEP, REST = "step", "rest"  # the whole, and the engine's own loop
# Part, owner, function. Owners: attributes of the engine, or classes as module:class. Runner V1 and V2 differ, and so
# do runs with and without a GPU: what is missing is reported.
FUNCTIONS = (
    ("scheduler", "scheduler", "schedule"),
    ("scheduler", "scheduler", "update_from_output"),
    ("inputs", "runner", "execute_model"),
    ("forward", "runner", "_model_forward"),  # V1
    ("forward", "graphs", "run_fullgraph"),  # V2
    ("forward", "model", "forward"),  # V2 without a graph
    ("replay", "torch.cuda:CUDAGraph", "replay"),
    ("logits", "model", "compute_logits"),
    ("sampler", "runner", "sample_tokens"),
    ("wait", "vllm.v1.worker.gpu_model_runner:AsyncGPUModelRunnerOutput", "get_output"),  # V1
    ("wait", "vllm.v1.worker.gpu.async_utils:AsyncOutput", "get_output"),  # V2
    ("wait", "runner", "_to_list"),  # V1 without asynchronous scheduling
    ("outputs", "outputs", "process_outputs"),
)
PARTS = (*dict.fromkeys(part for part, _, _ in FUNCTIONS), REST)
GPU = ("GPU, replay", "GPU, between replays")


class Where:
    """Host seconds of the parts of each step, and when each replay of a graph began and ended on the GPU."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.missing: list[str] = []
        self.events: list[tuple[Any, Any]] = []
        self.spent: dict[str, float] = {}
        self.inner = [0.0]  # seconds of the parts inside each part that runs
        self.on = False

    def install(self, engine: Any) -> None:
        """Wrap what there is of ``FUNCTIONS``."""
        core = engine.engine_core.engine_core
        runner = core.model_executor.driver_worker.worker.model_runner
        owners = {
            "scheduler": core.scheduler, "runner": runner, "graphs": getattr(runner, "cudagraph_manager", None),
            "model": runner.model, "outputs": engine.output_processor,
        }  # fmt: skip
        for part, name, function in FUNCTIONS:
            owner = _class(name) if ":" in name else owners[name]
            if (stock := getattr(owner, function, None)) is None:
                self.missing.append(f"{name}.{function}")
            else:
                setattr(owner, function, self._timed(part, stock))

    def step(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """What one step of the engine returns, and its seconds; its parts are added to ``steps``."""
        self.on, self.spent, self.inner = True, dict.fromkeys(PARTS, 0.0), [0.0]
        begin = time.perf_counter()
        found = run()
        took = time.perf_counter() - begin
        self.on = False
        self.spent |= {STEP: took, REST: took - self.inner[0]}
        self.steps.append(self.spent)
        return found, took

    def take(self, count: int) -> dict[str, Any]:
        """Medians of the last ``count`` steps and of the replays in them, in microseconds, and what is missing."""
        last, events = self.steps[-count:], self.events[-count:]
        self.steps, self.events = [], []
        found = {part: statistics.median(step[part] for step in last) * 1e6 for part in (STEP, *PARTS)}
        if len(events) > 1:
            import torch

            torch.cuda.synchronize()
            replays = [begin.elapsed_time(end) for begin, end in events]
            gaps = [end.elapsed_time(begin) for (_, end), (begin, _) in itertools.pairwise(events)]
            found |= {name: statistics.median(ms) * 1e3 for name, ms in zip(GPU, (replays, gaps), strict=True)}
        return {"us": found, "missing": self.missing}

    def _timed(self, part: str, stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.on:
                return stock(*args, **kwargs)
            self.inner.append(0.0)
            begin = time.perf_counter()
            try:
                return self._marked(stock, args, kwargs) if part == "replay" else stock(*args, **kwargs)
            finally:
                took = time.perf_counter() - begin
                self.spent[part] += took - self.inner.pop()
                self.inner[-1] += took

        return run

    def _marked(self, stock: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A replay between two events on the GPU."""
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        found = stock(*args, **kwargs)
        end.record()
        self.events.append((begin, end))
        return found


def table(rows: list[dict[str, Any]]) -> str:
    """For people: medians of a step, ours and stock's, of rows that have a ``where``."""
    points = [f"{row['batch']} x {row['context']}" for row in rows]
    lines = [f"{'median us of a decode step, ours / stock':42}" + "".join(f"{point:20}" for point in points)]
    for part in (STEP, *PARTS, *GPU):
        pairs = [[one["us"].get(part) for one in row["where"]] for row in rows]
        cells = [" / ".join("–" if us is None else f"{us:.0f}" for us in pair) for pair in pairs]
        lines.append(f"{part:42}" + "".join(f"{cell:20}" for cell in cells))
    missing = sorted({name for row in rows for one in row["where"] for name in one["missing"]})
    return "\n".join([*lines, f"not there: {', '.join(missing) or 'nothing'}"])


def _class(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
