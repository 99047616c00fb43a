"""The CUDA target's headers and generated code on a CPU: fibers for threads, a seeded scheduler, slow warps, late
copies.

What it shows is that the protocol of a block and between blocks does not stop, in the orders that were tried, and that
the arithmetic is right. It does not show what a GPU's memory does: here, memory is in order.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda import ops
from onelaunch.targets.cuda import records
from onelaunch.targets.cuda.dataflow import Dataflow
from onelaunch.targets.cuda.emit import ENTRY
from onelaunch.targets.cuda.emit import generate
from onelaunch.targets.cuda.loaded_ops import Parameters

HERE = Path(__file__).parent / "emulator"
STEPS = 30_000_000
Emulate = Callable[..., int]


class Stopped(Exception):
    """The launch had not ended after so many steps of the scheduler."""


class Grid(ctypes.Structure):
    """A launch, as the emulator takes it (emulator/device.h)."""

    _fields_ = (
        ("launch", ctypes.c_void_p), ("entry", ctypes.c_uint), ("blocks", ctypes.c_uint), ("shared", ctypes.c_uint),
        ("overlaps", ctypes.c_uint), ("saying", ctypes.c_uint), ("running", ctypes.c_uint),
    )  # fmt: skip


def compiled(
    text: str, headers: Mapping[str, str] | None = None, entries: Sequence[str] = (ENTRY,), block: str = "kBlock"
) -> Emulate:
    """Generated source for a CPU: emulate(launches, their number, seed, steps), 0 where they ended.
    ``headers``: texts in place of those of the target; ``block``: the header's name for the threads of a block.
    """
    folder = Path(tempfile.mkdtemp(prefix="onelaunch-emulated-"))
    shutil.copytree(compiler.INCLUDE / "onelaunch", folder / "onelaunch")
    for shadow in (HERE / "onelaunch").iterdir():
        shutil.copy(shadow, folder / "onelaunch")
    for name, other in (headers or {}).items():
        (folder / "onelaunch" / name).write_text(other)
    (folder / "program.cu").write_text(text)
    library = folder / "program.so"
    command = [
        cpu_compiler.find(), "-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-include", str(HERE / "device.h"),
        f'-DPROGRAM="{folder}/program.cu"', f"-DENTRIES={','.join(entries)}", f"-DBLOCK=onelaunch::{block}",
        f"-I{folder}", str(HERE / "main.cpp"), "-o", str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    emulate = ctypes.CDLL(str(library)).emulate
    emulate.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint64, ctypes.c_uint64]
    shutil.rmtree(folder)
    return emulate


class Memory:
    """What a program has of its own: see ``onelaunch.targets.cuda.loaded``."""

    def __init__(self, program: Program, tables: records.Tables, scratch: int, flow: Dataflow) -> None:
        words, starts = tables.packed()
        self.parts = {
            "tables": _aligned(words.nbytes), "events": np.zeros(max(len(program.events), 1), np.uint32),
            "control": np.zeros(16, np.uint32), "report": np.zeros(12, np.uint32),
            "workspace": _aligned(program.workspace), "scratch": _aligned(scratch), "flagged": _aligned(4 * flow.words),
        }  # fmt: skip
        self.parts["tables"][: words.nbytes] = words.view(np.uint8)
        at = {name: part.ctypes.data for name, part in self.parts.items()}
        self.fixed = {name: at["tables"] + start for name, start in starts.items()}
        self.fixed |= {name: at[name] for name in ("events", "control", "report", "scratch", "flagged")}
        self.fixed |= {"n_events": len(program.events), "n_flagged": flow.words}
        self.own = {i: at["workspace"] + b.offset for i, b in enumerate(program.buffers) if b.role is Role.WORKSPACE}
        self.own |= {i: at["flagged"] + 4 * start for i, start in flow.places.items()}

    def take_report(self) -> records.Report:
        report = records.Report.from_buffer_copy(self.parts["report"])
        self.parts["report"][:] = 0
        return report


class Emulated:
    """A program, ready to be emulated."""

    def __init__(self, program: Program, headers: Mapping[str, str] | None = None) -> None:
        self.program = program
        source = generate(program)
        self.shape = source.shape
        self._emulate = compiled(source.text(), headers)
        tables = records.Tables(program, self.shape, source.flow)
        self.memory = Memory(program, tables, self.shape.scratch * len(program.queues), source.flow)
        self.launch_record = launch = records.launch_type(self.shape)()
        for name, value in self.memory.fixed.items():
            setattr(launch, name, value)
        launch.patience = 10**15
        for i, address in self.memory.own.items():
            launch.buffers[i] = address

    def launch(
        self, pointers: Sequence[int], symbols: Sequence[int], seed: int = 0, steps: int = STEPS
    ) -> records.Report:
        """One launch; what it reported. Raises Stopped."""
        launch = self.launch_record
        for i, pointer in enumerate(pointers):
            if i not in self.memory.own:
                launch.buffers[i] = pointer
        launch.symbols[: len(symbols)] = list(symbols)
        shared = self.shape.shared_bytes
        grid = Grid(ctypes.addressof(launch), 0, len(self.program.queues), shared)
        if self._emulate(ctypes.byref(grid), 1, seed, steps):
            raise Stopped(f"seed {seed}")
        return self.memory.take_report()


class EmulatedOps:
    """The same, as a launch for each op."""

    def __init__(self, program: Program, headers: Mapping[str, str] | None = None) -> None:
        self.program, self.source = program, ops.generate(program)
        self.launches = ops.launches_of(program)
        names = [ops.entry(n) for n in range(len(program.kernels))]
        self._emulate = compiled(self.source.text(), headers, names, "kOpBlock")
        shape, tables = self.source.shape, ops.tables_of(program, self.source)
        blocks = max(len(launch.tasks) for launch in self.launches)
        self.memory = Memory(program, tables, shape.scratch * blocks, self.source.flow)
        fixed = self.memory.fixed | {"n_events": 0}
        self.parameters = Parameters(program, shape, self.launches, self.memory.own, fixed)

    def launch(
        self, pointers: Sequence[int], symbols: Sequence[int], seed: int = 0, steps: int = STEPS
    ) -> records.Report:
        """All launches of the program; what was reported. Raises Stopped."""
        self.parameters.give(pointers, symbols)
        grids = (Grid * len(self.launches))()
        for i, (launch, parameters) in enumerate(zip(self.launches, self.parameters.all, strict=True)):
            shared, overlaps = self.source.shared_of(launch.kernel), ops.overlaps(self.source, self.launches, i)
            grids[i] = Grid(ctypes.addressof(parameters), launch.kernel, len(launch.tasks), shared, overlaps)
        if self._emulate(grids, len(grids), seed, steps):
            raise Stopped(f"seed {seed}")
        return self.memory.take_report()


def _aligned(size: int) -> np.ndarray:
    """Zeroed memory that begins at a multiple of 256 bytes."""
    raw = np.zeros(size + 256, np.uint8)
    start = -raw.ctypes.data % 256
    return raw[start : start + size]


def aligned(t: torch.Tensor) -> torch.Tensor:
    """A copy that begins at a multiple of 256 bytes, as torch gives it on a GPU."""
    raw = torch.zeros(t.nbytes + 256, dtype=torch.uint8)
    start = -raw.data_ptr() % 256
    made = raw[start : start + t.nbytes].view(t.dtype).view(t.shape)
    return made.copy_(t)
