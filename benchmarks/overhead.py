"""What a call costs outside its launch, over a backend that computes nothing on the same graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import Self

import torch
from torch.fx import GraphModule

from onelaunch.frontend.stats import records
from onelaunch.runtime.compiled import CompiledSegment


def nothing(module: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """A backend whose code returns the same zeros at every call: Dynamo's guards and argument passing remain."""
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    made = tuple(torch.zeros_like(node.meta["example_value"], device="cpu") for node in output.args[0])
    return lambda *arguments: made


class LaunchClock:
    """Adds up the time inside launches of every program of this process, while entered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._wrapped: list[tuple[Any, Any]] = []

    def __enter__(self) -> Self:
        segments = (segment for record in records() for segment in record.live)
        for segment in (s for s in segments if isinstance(s, CompiledSegment)):
            for binding in segment.bindings:
                self._wrapped.append((binding, binding.executable))
                binding.executable = _Clocked(binding.executable, self.seconds)
        return self

    def __exit__(self, *exception: object) -> None:
        for binding, executable in self._wrapped:
            binding.executable = executable


class _Clocked:
    """An executable that notes how long each launch takes."""

    def __init__(self, executable: Any, seconds: list[float]) -> None:
        self._executable, self._seconds = executable, seconds

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """Launch, and note the time."""
        start = time.perf_counter()
        self._executable.launch(pointers, symbols)
        self._seconds.append(time.perf_counter() - start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executable, name)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Median seconds a call: all of it outside the launch, and the part that a backend which does nothing has too."""

    outside: float
    of_nothing: float

    @property
    def ours(self) -> float:
        """What we add."""
        return self.outside - self.of_nothing


def measure_overhead(step: Callable[[], None], empty: Callable[[], None], calls: int) -> Overhead:
    """Time ``calls`` of each in turns; ``step`` launches programs of ours, ``empty`` uses the ``nothing`` backend."""
    outside, of_nothing = [], []
    with LaunchClock() as clock:
        for _ in range(calls):
            clock.seconds.clear()
            whole = _seconds(step)
            outside.append(whole - sum(clock.seconds))
            of_nothing.append(_seconds(empty))
    return Overhead(statistics.median(outside), statistics.median(of_nothing))


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
