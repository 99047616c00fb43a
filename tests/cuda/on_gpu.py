"""Running programs on the GPU over tensors of the CPU, as the tests of other targets do."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import torch

from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.cuda.executable import CudaExecutable
from onelaunch.targets.cuda.target import CudaTarget


@functools.cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="onelaunch-cuda-"))


def build(program: Program, launch: str = "one") -> CudaExecutable:
    made = Path(tempfile.mkdtemp(dir=folder()))
    executable = CudaTarget(launch).build(program, made)
    executable.set_deadline(5.0)
    return executable


def launch(program: Program, tensors: Mapping[str, torch.Tensor], values: Sequence[int]) -> None:
    """One launch of ``program`` over copies of ``tensors``, copied back; for ``tests.cpu.codegen_run``."""
    run(build(program), list(tensors.values()), values)


def run(executable: CudaExecutable, memory: Sequence[torch.Tensor], values: Sequence[int]) -> None:
    """One launch over copies in GPU memory; what they became is copied back, also where the launch failed."""
    own = [on_gpu(t) for t in memory]
    try:
        executable.launch([t.data_ptr() for t in own], values)
        executable.synchronize()
    finally:
        for t, copy in zip(memory, own, strict=True):
            _flat(t).copy_(_flat(copy))


def on_gpu(t: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides, and the same offset in its storage."""
    storage = _flat(t).cuda()
    return storage.as_strided(t.shape, t.stride(), t.storage_offset())


def _flat(t: torch.Tensor) -> torch.Tensor:
    """All of a tensor's storage."""
    count = t.untyped_storage().nbytes() // t.element_size()
    return t.as_strided((count,), (1,), 0)


class OnGpu:
    """An executable that is given addresses of CPU tensors' memory by ``tests.programs.run``: see ``hold``."""

    def __init__(self, program: Program, launch: str = "one") -> None:
        self.program, self.executable = program, build(program, launch)

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        import ctypes

        sizes = [max(b.nbytes, 1) for b in self.program.buffers]
        views = [(ctypes.c_char * n).from_address(p) for p, n in zip(pointers, sizes, strict=True)]
        own = [torch.frombuffer(v, dtype=torch.uint8).cuda() for v in views]
        self.executable.launch([t.data_ptr() for t in own], symbols)
        self.executable.synchronize()
        for view, copy, buffer in zip(views, own, self.program.buffers, strict=True):
            if buffer.role in (Role.OUTPUT, Role.STATE):
                torch.frombuffer(view, dtype=torch.uint8).copy_(copy.cpu())

    def set_counters(self, launches: int) -> None:
        self.executable.set_counters(launches)
