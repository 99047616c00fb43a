"""Views as index maps: from the index of an element of the view to the index of the element it shows."""

from __future__ import annotations

from collections.abc import Sequence

from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.expr import Expr

Index = tuple[Expr, ...]
Shape = Sequence[Expr]
ONE = const(1)


def product(extents: Sequence[Expr]) -> Expr:
    """The number of elements of a shape."""
    total = ONE
    for e in extents:
        total = build.mul(total, e)
    return total


def reshape(index: Index, view: Shape, source: Shape) -> Index:
    """``source.view(view)``: both shapes are cut into groups of equal size, each group is mapped by its flat index."""
    result: list[Expr] = []
    i = j = 0
    while i < len(view) or j < len(source):
        i_end, j_end = _group(view, i, source, j)
        flat = const(0)
        for d in range(i, i_end):
            flat = build.add(build.mul(flat, view[d]), index[d])
        result.extend(_unflatten(flat, source[j:j_end]))
        i, j = i_end, j_end
    return tuple(result)


def _group(view: Shape, i: int, source: Shape, j: int) -> tuple[int, int]:
    """The ends of the smallest groups from i and j on that hold the same number of elements."""
    a, b = ONE, ONE
    i_end, j_end = i, j
    if i < len(view):
        a, i_end = view[i], i + 1
    if j < len(source):
        b, j_end = source[j], j + 1
    while a is not b:
        take_view = i_end < len(view) and (j_end == len(source) or _smaller(a, b))
        if take_view:
            a, i_end = build.mul(a, view[i_end]), i_end + 1
        elif j_end < len(source):
            b, j_end = build.mul(b, source[j_end]), j_end + 1
        else:
            break  # only reached for symbolic sizes whose equality is not seen: one group of all the rest
    if i_end < len(view) and j_end == len(source):
        while i_end < len(view) and view[i_end] is ONE:
            i_end += 1
    return i_end, j_end


def _smaller(a: Expr, b: Expr) -> bool:
    from onelaunch.program.program import maximum

    return maximum(a) < maximum(b)


def _unflatten(flat: Expr, shape: Shape) -> list[Expr]:
    if not shape:
        return []
    parts: list[Expr] = []
    step = ONE
    for d in range(len(shape) - 1, 0, -1):
        parts.append(const(0) if shape[d] is ONE else build.mod(build.floordiv(flat, step), shape[d]))
        step = build.mul(step, shape[d])
    parts.append(const(0) if shape[0] is ONE else build.floordiv(flat, step))
    return parts[::-1]


def broadcast(index: Index, source: Shape) -> Index:
    """``source.expand(...)``: trailing dimensions line up, extents of 1 are repeated."""
    offset = len(index) - len(source)
    return tuple(const(0) if extent is ONE else index[offset + d] for d, extent in enumerate(source))
