"""Where regions lie in the workspace, in bytes. Arguments are taken not to overlap each other (an axiom)."""

from __future__ import annotations

import math

import numpy as np

from onelaunch.check.box import Box
from onelaunch.check.box import empty
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import maximum

LISTED = 1 << 20  # elements of a region that are listed one by one
Place = tuple[int, Box]  # a buffer and a box of it


class Memory:
    """Extents and strides of all buffers at the symbols' maxima, and what lies where in the workspace."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.extents = [b.extents for b in program.buffers]
        self.strides = [tuple(maximum(s) for s in b.strides) for b in program.buffers]
        self._bytes = [(b.offset, b.offset + b.nbytes) if b.role is Role.WORKSPACE else (0, 0) for b in program.buffers]

    def span(self, place: Place) -> tuple[int, int]:
        """First byte and last byte + 1 of a region of a workspace buffer."""
        number, box = place
        size, strides = self.program.buffers[number].dtype.itemsize, self.strides[number]
        first = self.program.buffers[number].offset
        reach = 1
        for (lo, hi), stride in zip(box, strides, strict=True):
            first += size * stride * lo
            reach += stride * (hi - 1 - lo)
        return first, first + size * reach

    def granules(self, place: Place, size: int) -> np.ndarray:
        """The granules of ``size`` bytes that a region touches, from the start of the workspace."""
        number, box = place
        b = self.program.buffers[number]
        at = np.zeros(1, dtype=np.int64)
        for (lo, hi), stride in zip(box, self.strides[number], strict=True):
            at = (at[:, None] + np.arange(lo, hi, dtype=np.int64) * stride).reshape(-1)
        item = b.dtype.itemsize
        first = (at * item + b.offset) // size
        return np.unique((first[:, None] + np.arange(-(-item // size))).reshape(-1))

    def share(self, a: Place, b: Place) -> bool:
        """Whether regions of two buffers share a byte (large ones: whether their spans do)."""
        whole_a, whole_b = self._bytes[a[0]], self._bytes[b[0]]
        if whole_a[0] >= whole_b[1] or whole_b[0] >= whole_a[1] or empty(a[1]) or empty(b[1]):
            return False
        (a_low, a_high), (b_low, b_high) = self.span(a), self.span(b)
        if a_low >= b_high or b_low >= a_high:
            return False
        if _elements(a[1]) > LISTED or _elements(b[1]) > LISTED:
            return True
        return bool(np.intersect1d(self.granules(a, 1), self.granules(b, 1)).size)


def _elements(box: Box) -> int:
    return math.prod(hi - lo for lo, hi in box)
