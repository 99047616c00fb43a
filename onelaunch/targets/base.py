"""What every target offers: a machine to schedule for, and executables made from programs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from onelaunch.program.machine import Machine
from onelaunch.program.program import Program


class Executable(Protocol):
    """A program made ready to run. It owns its workspace and its events."""

    program: Program

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """Run the program once and return when it has finished (CPU) or is enqueued (CUDA).

        ``pointers``: the address of every buffer in ``program.buffers`` order (workspace entries are ignored);
        ``symbols``: the values of ``program.symbols``. Raises LaunchError where the launch was aborted and IndexError
        where data picked an index outside a buffer.
        """


class Target(Protocol):
    """A way to run programs."""

    name: str

    def machine(self, workers: int | None) -> Machine:
        """The machine of this host; ``workers`` overrides the default number."""

    def fingerprint(self) -> str:
        """Everything besides program and options that the built code depends on (compiler and its version, flags,
        CPU features): part of the disk cache's key.
        """

    def build(self, program: Program, folder: Path) -> Executable:
        """Generate, compile and load. Files go to ``folder``; a finished build found there is reused."""

    def load(self, program: Program, folder: Path) -> Executable:
        """The executable whose files a build of this very program, by this very target, has put into ``folder``."""

    def begin(self, program: Program) -> Callable[[Path], Executable]:
        """``build`` in two steps: what takes long has begun in the background, if the target can do that; what is
        returned takes the folder, and waits.
        """
