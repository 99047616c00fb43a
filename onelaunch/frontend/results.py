"""How a call's outputs are made from the results of one launch, where that is more than handing them on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

KINDS = ("result", "view", "argument", "constant", "sum")


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One output. ``kind``: one of KINDS.

    "result" ``index`` of the launch; a "view" of that result; "argument" ``index`` of the call; a "constant"; or a
    "sum" of integer arguments, each times a factor, and of ``offset``.
    """

    kind: str
    index: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0
    terms: tuple[tuple[int, int], ...] = ()  # (argument, factor)
    value: bool | int | float | str | None = None

    def make(self, args: Sequence[Any], results: Sequence[torch.Tensor]) -> Any:
        """The output of a call with ``args`` whose launch gave ``results``."""
        if self.kind == "result":
            return results[self.index]
        if self.kind == "view":
            return results[self.index].as_strided(self.size, self.stride, self.offset)
        if self.kind == "sum":
            return self.offset + sum(factor * args[i] for i, factor in self.terms)
        return args[self.index] if self.kind == "argument" else self.value


def is_identity(outputs: Sequence[Result]) -> bool:
    """The results are the outputs, in order."""
    return all(o.kind == "result" and o.index == i for i, o in enumerate(outputs))
