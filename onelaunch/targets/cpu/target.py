"""The CPU target: generated C++, compiled by the system's compiler, run by persistent threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from onelaunch.errors import OptionError
from onelaunch.program import machine as machines
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program
from onelaunch.targets.cpu import compiler
from onelaunch.targets.cpu import library
from onelaunch.targets.cpu.emit import generate
from onelaunch.targets.cpu.executable import CpuExecutable
from onelaunch.targets.cpu.features import cores

MOST_WORKERS = 1024
SPLIT_FROM = 3  # kernels from which a program's source is worth two translation units


class CpuTarget:
    """See ``onelaunch.targets.base.Target``."""

    name = "cpu"

    def machine(self, workers: int | None = None) -> Machine:
        """This host with ``workers`` threads; by default one for each physical core that the process may use."""
        if workers is not None and not 1 <= workers <= MOST_WORKERS:
            raise OptionError(f"workers={workers} is not accepted: give 1 to {MOST_WORKERS}, or None for one a core")
        return machines.cpu(cores() if workers is None else workers)

    def fingerprint(self) -> str:
        """Compiler and its version, flags, headers, CPU features."""
        return compiler.fingerprint()

    def build(self, program: Program, folder: Path) -> CpuExecutable:
        """Generate, compile and load; libraries found in ``folder`` are reused if they are of the same source."""
        source = generate(program)
        parts = 1 if len(program.kernels) < SPLIT_FROM else min(2, os.cpu_count() or 1)
        texts = [source.text(part, parts) for part in range(parts)] if program.kernels else []
        return CpuExecutable(program, library.build(texts, folder), source.scratch)

    load = build

    def begin(self, program: Program) -> Callable[[Path], CpuExecutable]:
        """All of it waits for the folder: the compiler is a process, and its files go there."""
        return functools.partial(self.build, program)
