"""Whether two tensors share memory: a written argument must not share any with another argument."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """The memory of a tensor. ``low`` to ``high`` - 1 are the addresses of its bytes; the strides are in bytes."""

    low: int
    high: int
    slot: int
    shape: tuple[int, ...] = dataclasses.field(compare=False)
    strides: tuple[int, ...] = dataclasses.field(compare=False)
    itemsize: int = dataclasses.field(compare=False)


def place(slot: int, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> Place | None:
    """The memory of a tensor with these strides (in elements); None where it has no elements."""
    if 0 in shape:
        return None
    steps = tuple(s * itemsize for s in strides)
    return Place(pointer, pointer + itemsize + _reach(shape, steps), slot, shape, steps, itemsize)


def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


def collide(a: Place, b: Place) -> bool:
    """True unless the two certainly share no byte: they lie apart, or interleave (two slices of one larger tensor)."""
    if a.high <= b.low or b.high <= a.low:
        return False
    return not any(_interleave(a, b, step) for step in {*a.strides, *b.strides} if step > 0)


def _interleave(a: Place, b: Place, step: int) -> bool:
    """Modulo ``step``, each tensor stays in one interval, and the two intervals lie apart."""
    spans = []
    for p in (a, b):
        dims = [(n, s) for n, s in zip(p.shape, p.strides, strict=True) if n > 1 and s % step]
        spans.append(p.itemsize + sum((n - 1) * s for n, s in dims))
    gap = (b.low - a.low) % step
    return spans[0] <= gap and gap + spans[1] <= step


class Written:
    """The memory that a call writes, in order of address."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = sorted(places)
        self.longest = max((p.high - p.low for p in self.places), default=0)

    def collision(self, p: Place) -> Place | None:
        """A written tensor that ``p``, which is another one, shares memory with."""
        start = bisect_left(self.places, p.low - self.longest, key=lambda q: q.low)
        for q in self.places[start:]:
            if q.low >= p.high:
                break
            if q.slot != p.slot and collide(p, q):
                return q
        return None
