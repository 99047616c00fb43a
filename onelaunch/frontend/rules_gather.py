"""Rules of gathers and scatters: indices that are data."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
from onelaunch.frontend.aten import convert
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import operand
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import same_type
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.frontend.rules_accumulate import Found
from onelaunch.frontend.rules_accumulate import accumulate
from onelaunch.frontend.rules_layout import moved
from onelaunch.frontend.rules_layout import slice_start
from onelaunch.frontend.rules_layout import wrapped
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.graph import Value


@rule("embedding")
def _embedding(low: Lowering, weight: Any, ids: Any, *_: Any) -> Value:
    table, rows = low.value(weight), low.value(ids)
    rank = len(rows.shape)
    return low.emit(meta(low), lambda i: low.at(table, (build.cast(low.at(rows, i[:rank]), DType.I64), i[rank])))


@rule("index_select")
def _index_select(low: Lowering, x: Any, dim: Any, ids: Any) -> Value:
    source, rows = low.value(x), low.value(ids)
    d = low.static(dim) % len(source.shape)
    return low.emit(meta(low), lambda i: low.at(source, moved(i, d, build.cast(low.at(rows, i[d : d + 1]), DType.I64))))


@rule("gather")
def _gather(low: Lowering, x: Any, dim: Any, ids: Any, sparse_grad: bool = False) -> Value:
    source, rows = low.value(x), low.value(ids)
    d = low.static(dim) % len(source.shape)
    return low.emit(meta(low), lambda i: low.at(source, moved(i, d, build.cast(low.at(rows, i), DType.I64))))


def _advanced(
    low: Lowering, source: Value, indices: Sequence[Any]
) -> tuple[tuple[Expr, ...], Callable[[Index], Index]]:
    """Advanced indexing: the shape of ``source[indices]`` and the map from an index of it into the source."""
    found: dict[int, Value] = {d: low.value(t) for d, t in enumerate(indices) if t is not None}
    if any(v.dtype in (DType.BOOL, DType.U8) for v in found.values()):
        raise UnsupportedError("indexing with a bool mask: the result's size depends on data")
    rank = max(len(v.shape) for v in found.values())
    common: list[Expr] = [views.ONE] * rank
    for v in found.values():
        for d, e in enumerate(v.shape):
            at = rank - len(v.shape) + d
            common[at] = e if common[at] is views.ONE else common[at]
    dims = sorted(found)
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    front = dims[0] if adjacent else 0
    others = [d for d in range(len(source.shape)) if d not in found]
    shape = [source.shape[d] for d in others]
    full = (*shape[:front], *common, *shape[front:])

    def position(index: Index) -> Index:
        picked, rest = index[front : front + rank], iter((*index[:front], *index[front + rank :]))
        result: list[Expr] = []
        for d, extent in enumerate(source.shape):
            if d in found:
                v = found[d]
                element = build.cast(low.at(v, views.broadcast(picked, v.shape)), DType.I64)
                result.append(wrapped(element, extent))
            else:
                result.append(next(rest))
        return tuple(result)

    return full, position


@rule("index", "_unsafe_index")
def _index(low: Lowering, x: Any, indices: Sequence[Any]) -> Value:
    source = low.value(x)
    _, position = _advanced(low, source, indices)
    return low.emit(meta(low), lambda i: low.at(source, position(i)))


@rule("index_put", "_unsafe_index_put")
def _index_put(low: Lowering, x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Value:
    base, new = low.value(x), low.value(values)
    same_type(base, new)
    shape, position = _advanced(low, base, indices)
    if accumulate:
        return _index_add(low, base, indices, shape, position, new)
    variables = low.variables(shape)
    body = convert(low.at(new, views.broadcast(variables, new.shape)), base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, position(variables), body, base=base.name)


def _index_add(
    low: Lowering,
    base: Value,
    indices: Sequence[Any],
    shape: Sequence[Expr],
    position: Callable[[Index], Index],
    new: Value,
) -> Value:
    picked = [d for d, t in enumerate(indices) if t is not None]
    kept = [d for d in range(len(base.shape)) if d not in picked]
    adjacent = picked == list(range(picked[0], picked[-1] + 1))
    front = picked[0] if adjacent else 0
    rank = len(shape) - len(kept)

    def found(index: Index, steps: Sequence[Expr]) -> Found:
        others = [index[d] for d in kept]
        at = (*others[:front], *steps, *others[front:])
        place = position(at)
        here = const(True, DType.BOOL)
        for d in picked:
            here = build.logical_and(here, build.eq(place[d], index[d]))
        return [here], convert(low.at(new, views.broadcast(at, new.shape)), base.dtype)

    return accumulate(low, base, shape[front : front + rank], found)


@rule("index_copy")
def _index_copy(low: Lowering, x: Any, dim: Any, ids: Any, new: Any) -> Value:
    base = low.value(x)
    d = low.static(dim) % len(base.shape)
    return _index_put(low, x, [None] * d + [ids], new)


@rule("slice_scatter")
def _slice_scatter(
    low: Lowering, x: Any, new: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Value:
    base, source = low.value(x), low.value(new)
    d = low.static(dim) % len(base.shape)
    begin = slice_start(low, start, base.shape[d])
    variables = low.variables(source.shape)
    target = moved(variables, d, build.add(begin, build.mul(variables[d], const(low.static(step)))))
    body = convert(low.at(source, variables), base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, target, body, base=base.name)


@rule("select_scatter")
def _select_scatter(low: Lowering, x: Any, new: Any, dim: Any, position: Any) -> Value:
    base, source = low.value(x), low.value(new)
    d = low.static(dim) % len(base.shape)
    variables = low.variables(source.shape)
    at = wrapped(low.number(position), base.shape[d])
    body = convert(low.at(source, variables), base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, (*variables[:d], at, *variables[d:]), body, base=base.name)


@rule("scatter")
def _scatter(low: Lowering, x: Any, dim: Any, ids: Any, new: Any, **kwargs: Any) -> Value:
    if kwargs:
        raise UnsupportedError("scatter with a reduction")
    base, rows = low.value(x), low.value(ids)
    d = low.static(dim) % len(base.shape)
    variables = low.variables(rows.shape)
    target = moved(variables, d, build.cast(low.at(rows, variables), DType.I64))
    body = operand(low, new, variables, base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, target, body, base=base.name)
