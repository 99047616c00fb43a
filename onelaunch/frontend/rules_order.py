"""Rules of sorting: every element's place is the number of elements that come before it."""

from __future__ import annotations

from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend.aten import rule
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.frontend.rules_layout import moved
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Value
from onelaunch.program.program import maximum

LONGEST = 256  # elements of a row: each one is compared with every other


@rule("sort")
def _sort(low: Lowering, x: Any, dim: Any = -1, descending: Any = False, *, stable: Any = None) -> list[Value]:
    if isinstance(dim, bool):  # sort(x, stable, dim, descending)
        raise UnsupportedError("sort with positional options")
    return _ordered(low, "sort", x, dim, bool(descending))


@rule("topk")
def _topk(low: Lowering, x: Any, k: Any, dim: Any = -1, largest: Any = True, sorted: Any = True) -> list[Value]:
    return _ordered(low, "topk", x, dim, bool(largest))


def _ordered(low: Lowering, name: str, x: Any, dim: Any, descending: bool) -> list[Value]:
    """The first elements of a row in order, and where they were; of equal ones, the earlier comes first."""
    source = low.value(x)
    values, places = low.node.meta["val"]
    if not source.shape:
        return [low.emit(values, lambda i: low.at(source, i), suffix="_0"), low.emit(places, _nought, suffix="_1")]
    d = low.static(dim) % len(source.shape)
    extent = source.shape[d]
    if maximum(extent) > LONGEST:
        raise UnsupportedError(f"{name} over {extent} elements; accepted: {LONGEST} or fewer")

    def rank(index: Index) -> Expr:
        other = low.reduction(extent) if maximum(extent) > 1 else const(0)
        mine, theirs = low.at(source, index), low.at(source, moved(index, d, other))
        before = _before(theirs, mine, descending)
        earlier = build.logical_and(build.lt(other, index[d]), pointwise(Op.NOT, _before(mine, theirs, descending)))
        counted = build.cast(pointwise(Op.OR, before, earlier), DType.I64)
        return counted if other.is_const else build.reduce("sum", other, counted)

    every = low.variables(source.shape)
    ranks = low.emit_nest(source.shape, DType.I64, every, every, rank(every), suffix="_rank")

    def place(index: Index) -> Expr:
        other = low.reduction(extent) if maximum(extent) > 1 else const(0)
        here = build.eq(low.at(ranks, moved(index, d, other)), index[d])
        found = build.where(here, other, const(0))
        return found if other.is_const else build.reduce("sum", other, found)

    at = low.emit(places, place, suffix="_1")
    return [low.emit(values, lambda i: low.at(source, moved(i, d, low.at(at, i))), suffix="_0"), at]


def _nought(_: Index) -> Expr:
    return const(0)


def _before(a: Expr, b: Expr, descending: bool) -> Expr:
    """Whether ``a`` comes strictly before ``b``. A NaN is the largest number, as torch has it."""
    first = build.lt(b, a) if descending else build.lt(a, b)
    if not a.dtype.is_float:
        return first
    odd = (a, b) if descending else (b, a)
    only = build.logical_and(pointwise(Op.ISNAN, odd[0]), pointwise(Op.NOT, pointwise(Op.ISNAN, odd[1])))
    return pointwise(Op.OR, first, only)
