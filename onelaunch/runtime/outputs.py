"""The results of a call: fresh memory for every launch, in the strides that the caller expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.runtime.extents import evaluate_all


class Outputs:
    """The OUTPUT buffers of a program."""

    def __init__(self, program: Program, device: str) -> None:
        self.device = torch.device(device)
        found = [(n, b) for n, b in enumerate(program.buffers) if b.role is Role.OUTPUT]
        self.numbers = [n for n, _ in found]
        self.buffers = [b for _, b in found]
        self._plans: list[tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype]] = []

    def resize(self, symbols: Mapping[str, int]) -> None:
        """Evaluate sizes and strides for these values of the symbols."""
        self._plans = [
            (n, b.argument, evaluate_all(b.shape, symbols), evaluate_all(b.strides, symbols), b.dtype.torch)
            for n, b in zip(self.numbers, self.buffers, strict=True)
        ]

    def allocate(self, table: Any) -> dict[int, torch.Tensor]:
        """New tensors by number of the result; their addresses go into ``table``, by number of the buffer."""
        made = {}
        for number, result, shape, strides, dtype in self._plans:
            made[result] = t = torch.empty_strided(shape, strides, dtype=dtype, device=self.device)
            table[number] = t.data_ptr()
        return made
