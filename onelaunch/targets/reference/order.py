"""Orders of execution: which of the workers that could run a task goes next. Every order a device may show is legal."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence

from onelaunch.errors import OptionError
from onelaunch.program.program import Program

Choice = Callable[[Sequence[int], Sequence[int]], int]  # (workers that can run, their next tasks) -> place in the lists

MODES = ("random", "first", "last", "newest", "round", "delay")


def make(mode: str, program: Program, seed: int = 0) -> Choice:
    """A choice by name.

    ``random``: any (seeded); ``first`` / ``last``: the lowest / highest worker, as far as it gets; ``newest``: the task
    highest in its op's order first; ``round``: workers in turn; ``delay``: task number ``seed`` as late as possible.
    """
    if mode == "random":
        generator = random.Random(seed)  # noqa: S311 - an order, not a secret
        return lambda workers, tasks: generator.randrange(len(workers))
    if mode == "first":
        return lambda workers, tasks: 0
    if mode == "last":
        return lambda workers, tasks: len(workers) - 1
    if mode == "newest":
        return lambda workers, tasks: max(range(len(tasks)), key=lambda i: (program.tasks[tasks[i]].op, tasks[i]))
    if mode == "round":
        return _Round()
    if mode == "delay":
        return lambda workers, tasks: 1 if len(tasks) > 1 and tasks[0] == seed else 0
    raise OptionError(f"order {mode!r} is unknown; accepted: {', '.join(MODES)}")


class _Round:
    def __init__(self) -> None:
        self.last = -1

    def __call__(self, workers: Sequence[int], tasks: Sequence[int]) -> int:
        place = next((i for i, w in enumerate(workers) if w > self.last), 0)
        self.last = workers[place]
        return place
