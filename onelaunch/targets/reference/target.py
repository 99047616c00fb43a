"""The reference target: the oracle for all others. It compiles nothing and runs wherever torch does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from onelaunch.graph.dtype import DType
from onelaunch.program.machine import Machine
from onelaunch.program.program import VERSION
from onelaunch.program.program import Program
from onelaunch.targets.reference.executable import ReferenceExecutable

WORKERS = 4  # enough to show every kind of dependency between workers


class ReferenceTarget:
    """Runs programs in Python. Options as of ``ReferenceExecutable``."""

    name = "reference"

    def __init__(self, mode: str = "random", seed: int = 0, debug: bool = False) -> None:
        self.mode, self.seed, self.debug = mode, seed, debug

    def machine(self, workers: int | None = None) -> Machine:
        """A machine whose tasks are costly and whose dependencies are cheap, as they are in Python."""
        return Machine(
            name="reference", workers=workers or WORKERS, bandwidth=10.0, flops=8.0, transcendental=2.0,
            dependency=1e3, task=1e6, activation=DType.F32, linear_rows=8, alignment=64,
        )  # fmt: skip

    def fingerprint(self) -> str:
        """The built code is the program itself."""
        return f"reference-{VERSION}"

    def build(self, program: Program, folder: Path) -> ReferenceExecutable:
        """Nothing is generated; ``folder`` stays untouched."""
        return ReferenceExecutable(program, self.mode, self.seed, self.debug)

    load = build

    def begin(self, program: Program) -> Callable[[Path], ReferenceExecutable]:
        """There is nothing to begin."""
        return functools.partial(self.build, program)
