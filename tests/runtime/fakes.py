"""Executables for tests of the runtime: they record what they are given, or compute a hand-written program in torch."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence

import torch

from onelaunch.program.program import Program


def view(address: int, dtype: torch.dtype, shape: Sequence[int], strides: Sequence[int]) -> torch.Tensor:
    """The tensor at an address."""
    size = dtype.itemsize * (1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)))
    raw = torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype)
    return raw.as_strided(shape, strides)


class Recorder:
    """Launches nothing; remembers every call."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.calls: list[tuple[list[int], list[int]]] = []

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        self.calls.append((list(pointers), list(symbols)))


class TwoOps:
    """Runs ``programs.two_ops`` in torch; notices when two threads launch at once."""

    def __init__(self, program: Program) -> None:
        self.program, self.width = program, program.buffers[1].extents[0]
        self.busy = threading.Lock()
        self.pause = 0.0

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        assert self.busy.acquire(blocking=False), "two launches at once"
        (tokens,), width = symbols, self.width
        x = view(pointers[0], torch.float32, (tokens, width), (width, 1))
        w = view(pointers[1], torch.bfloat16, (width, width), (width, 1))
        counter = view(pointers[2], torch.int64, (1,), (1,))
        y = view(pointers[4], torch.float32, (tokens, width), (width, 1))
        y.copy_((x + 1) @ w.float().T)
        time.sleep(self.pause)
        counter += 1
        self.busy.release()
