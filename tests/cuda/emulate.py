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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.cpu import compiler as cpu_compiler
from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda import records
from onelaunch.targets.cuda.emit import STAGE_BYTES
from onelaunch.targets.cuda.emit import generate

HERE = Path(__file__).parent / "emulator"
STEPS = 30_000_000


class Stopped(Exception):
    """The launch had not ended after so many steps of the scheduler."""


class Emulated:
    """A program, ready to be emulated. ``headers``: texts in place of those of the target."""

    def __init__(self, program: Program, headers: dict[str, str] | None = None) -> None:
        self.program = program
        source = generate(program)
        self.shape, flow = source.shape, source.flow
        self.folder = Path(tempfile.mkdtemp(prefix="onelaunch-emulated-"))
        shutil.copytree(compiler.INCLUDE / "onelaunch", self.folder / "onelaunch")
        for shadow in (HERE / "onelaunch").iterdir():
            shutil.copy(shadow, self.folder / "onelaunch")
        for name, text in (headers or {}).items():
            (self.folder / "onelaunch" / name).write_text(text)
        (self.folder / "program.cu").write_text(source.text())
        library = self.folder / "program.so"
        command = [
            cpu_compiler.find(), "-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-include", str(HERE / "device.h"),
            f'-DPROGRAM="{self.folder}/program.cu"', f"-I{self.folder}", str(HERE / "main.cpp"), "-o", str(library),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
        self._emulate = ctypes.CDLL(str(library)).emulate
        self._emulate.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint64, ctypes.c_uint64]
        shutil.rmtree(self.folder)
        words, starts = records.Tables(program, self.shape, flow).packed()
        self.memory = {
            "tables": _aligned(words.nbytes), "events": np.zeros(max(len(program.events), 1), np.uint32),
            "control": np.zeros(16, np.uint32), "report": np.zeros(12, np.uint32),
            "workspace": _aligned(program.workspace), "scratch": _aligned(self.shape.scratch * len(program.queues)),
            "flagged": _aligned(4 * flow.words),
        }  # fmt: skip
        self.memory["tables"][: words.nbytes] = words.view(np.uint8)
        self.launch_record = launch = records.launch_type(self.shape)()
        for name, start in starts.items():
            setattr(launch, name, self.memory["tables"].ctypes.data + start)
        for name in ("events", "control", "report", "scratch", "flagged"):
            setattr(launch, name, self.memory[name].ctypes.data)
        launch.n_events, launch.n_flagged, launch.patience = len(program.events), flow.words, 10**15
        for i, b in enumerate(program.buffers):
            if b.role is Role.WORKSPACE:
                launch.buffers[i] = self.memory["workspace"].ctypes.data + b.offset
        for i, start in flow.places.items():
            launch.buffers[i] = self.memory["flagged"].ctypes.data + 4 * start

    def launch(
        self, pointers: Sequence[int], symbols: Sequence[int], seed: int = 0, steps: int = STEPS
    ) -> records.Report:
        """One launch; what it reported. Raises Stopped."""
        launch = self.launch_record
        for i, b in enumerate(self.program.buffers):
            if b.role is not Role.WORKSPACE:
                launch.buffers[i] = pointers[i]
        launch.symbols[: len(symbols)] = list(symbols)
        shared = self.shape.stages * STAGE_BYTES + self.shape.shared + self.shape.block_bytes
        if self._emulate(ctypes.addressof(launch), len(self.program.queues), shared, seed, steps):
            raise Stopped(f"seed {seed}")
        report = records.Report.from_buffer_copy(self.memory["report"])
        self.memory["report"][:] = 0
        return report


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
