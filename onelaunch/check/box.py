"""Boxes: products of half-open intervals."""

from __future__ import annotations

from collections.abc import Iterable

Box = tuple[tuple[int, int], ...]


def inside(inner: Box, outer: Box) -> bool:
    """Whether ``outer`` holds all of ``inner``."""
    return inner == outer or all(o[0] <= i[0] and i[1] <= o[1] for i, o in zip(inner, outer, strict=True))


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes share an element."""
    return all(x[0] < y[1] and y[0] < x[1] for x, y in zip(a, b, strict=True))


def empty(box: Box) -> bool:
    """Whether the box holds no element."""
    return any(lo >= hi for lo, hi in box)


def covered(box: Box, by: Iterable[Box]) -> bool:
    """Whether the union of ``by`` holds all of ``box``."""
    rest = [box]
    for other in by:
        rest = [piece for part in rest for piece in _minus(part, other)]
        if not rest:
            return True
    return not rest


def _minus(box: Box, other: Box) -> list[Box]:
    if not meet(box, other):
        return [] if empty(box) else [box]
    pieces = []
    core = list(box)
    for d, (lo, hi) in enumerate(other):
        low, high = core[d]
        if low < lo:
            pieces.append((*core[:d], (low, lo), *core[d + 1 :]))
        if hi < high:
            pieces.append((*core[:d], (hi, high), *core[d + 1 :]))
        core[d] = (max(low, lo), min(high, hi))
    return pieces
