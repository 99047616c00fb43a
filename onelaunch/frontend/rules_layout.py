"""Rules of views and of what only moves elements: each is an index map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
from onelaunch.frontend.aten import convert
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import scalar
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Value
from onelaunch.graph.index import bounds


@rule("view", "_unsafe_view", "reshape", "view_copy", "_reshape_alias", "flatten", "unflatten")
def _view(low: Lowering, x: Any, *_: Any) -> Value:
    source = low.value(x)
    if source.dtype is not Lowering.dtype(meta(low)):
        raise UnsupportedError(f"view of {source.dtype} as {Lowering.dtype(meta(low))}: its bits read as another type")
    shape = low.shape(meta(low))
    return low.emit(meta(low), lambda i: low.at(source, views.reshape(i, shape, source.shape)))


@rule("permute", "permute_copy", "transpose", "t", "movedim")
def _permute(low: Lowering, x: Any, *args: Any) -> Value:
    source = low.value(x)
    rank = len(source.shape)
    name = str(low.node.target).split(".")[1]
    order = list(range(rank))
    if name.startswith("permute"):
        order = [low.static(d) % rank for d in args[0]]
    elif name == "transpose":
        a, b = low.static(args[0]) % rank, low.static(args[1]) % rank
        order[a], order[b] = order[b], order[a]
    elif name == "t":
        order.reverse()
    else:
        raise UnsupportedError("movedim")
    return low.emit(meta(low), lambda i: low.at(source, tuple(i[order.index(d)] for d in range(rank))))


@rule("unsqueeze", "squeeze", "squeeze_copy", "unsqueeze_copy")
def _squeeze(low: Lowering, x: Any, *_: Any) -> Value:
    return _view(low, x)


@rule("expand", "expand_copy", "broadcast_to")
def _expand(low: Lowering, x: Any, *_: Any, **__: Any) -> Value:
    source = low.value(x)
    return low.emit(meta(low), lambda i: low.at(source, views.broadcast(i, source.shape)))


@rule("repeat")
def _repeat(low: Lowering, x: Any, _: Any) -> Value:
    source = low.value(x)

    def body(index: Index) -> Expr:
        offset = len(index) - len(source.shape)
        return low.at(source, tuple(build.mod(index[offset + d], e) for d, e in enumerate(source.shape)))

    return low.emit(meta(low), body)


@rule("slice", "slice_copy")
def _slice(low: Lowering, x: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1) -> Value:
    source = low.value(x)
    d = low.static(dim) % len(source.shape)
    begin = slice_start(low, start, source.shape[d])
    stride = low.static(step)
    return low.emit(meta(low), lambda i: low.at(source, moved(i, d, build.add(begin, build.mul(i[d], const(stride))))))


def slice_start(low: Lowering, start: Any, extent: Expr) -> Expr:
    """The first index of a slice, with Python's meaning of negative and too large values."""
    begin = wrapped(const(0) if start is None else low.number(start), extent)
    found = bounds(begin)
    if found is None or found[0] < 0:
        begin = pointwise(Op.MAX, begin, const(0))
    if begin.is_const and extent.is_const:
        return const(min(int(begin.value), int(extent.value)))
    return begin  # a slice that starts behind the end has no elements


def moved(index: Index, d: int, replacement: Expr) -> Index:
    """``index`` with dimension ``d`` replaced."""
    return (*index[:d], replacement, *index[d + 1 :])


@rule("select", "select_copy")
def _select(low: Lowering, x: Any, dim: Any, position: Any) -> Value:
    source = low.value(x)
    d = low.static(dim) % len(source.shape)
    at = wrapped(low.number(position), source.shape[d])
    return low.emit(meta(low), lambda i: low.at(source, (*i[:d], at, *i[d:])))


def wrapped(index: Expr, extent: Expr) -> Expr:
    """An index that may be negative, counted from the end then."""
    found = bounds(index)
    if found is not None and found[0] >= 0:
        return index
    if found is not None and found[1] < 0:
        return build.add(index, extent)
    index = build.cast(index, DType.I64)
    return build.where(build.lt(index, const(0)), build.add(index, extent), index)


@rule("split_with_sizes", "split_with_sizes_copy")
def _split(low: Lowering, x: Any, sizes: Any, dim: Any = 0) -> list[Value]:
    source = low.value(x)
    d = low.static(dim) % len(source.shape)
    parts: list[Value] = []
    offset = const(0)
    for number, (piece, size) in enumerate(zip(low.node.meta["val"], sizes, strict=True)):
        begin = offset
        parts.append(
            low.emit(piece, lambda i, b=begin: low.at(source, moved(i, d, build.add(b, i[d]))), suffix=f"_{number}")  # type: ignore[misc]
        )
        offset = build.add(offset, low.number(size))
    return parts


@rule("split", "split_copy", "chunk", "unbind", "unbind_copy", "unsafe_split")
def _pieces(low: Lowering, x: Any, size: Any = 0, dim: Any = 0) -> list[Value]:
    if "unbind" in str(low.node.target):
        source = low.value(x)
        d = low.static(size) % len(source.shape)
        return [
            low.emit(piece, lambda i, n=number: low.at(source, (*i[:d], const(n), *i[d:])), suffix=f"_{number}")  # type: ignore[misc]
            for number, piece in enumerate(low.node.meta["val"])
        ]
    return _split(low, x, [p.shape[low.static(dim)] for p in low.node.meta["val"]], dim)


@rule("cat", "concat")
def _cat(low: Lowering, tensors: Sequence[Any], dim: Any = 0) -> Value:
    sources = [low.value(t) for t in tensors]
    rank = meta(low).dim()
    d = low.static(dim) % rank
    # torch lets an empty 1-d tensor take part in any concatenation
    sources = [s for s in sources if len(s.shape) == rank and s.shape[d] is not const(0)]
    dtype = Lowering.dtype(meta(low))

    def body(index: Index) -> Expr:
        ends = [const(0)]
        for s in sources:
            ends.append(build.add(ends[-1], s.shape[d]))
        pieces = [
            convert(low.at(s, moved(index, d, build.sub(index[d], begin))), dtype)
            for s, begin in zip(sources, ends, strict=False)
        ]
        result = pieces[-1]
        for piece, end in zip(pieces[-2::-1], ends[-2:0:-1], strict=True):
            result = build.where(build.lt(index[d], end), piece, result)
        return result

    return low.emit(meta(low), body)


@rule("constant_pad_nd")
def _pad(low: Lowering, x: Any, padding: Sequence[Any], value: Any = 0) -> Value:
    source = low.value(x)
    rank = len(source.shape)
    dtype = Lowering.dtype(meta(low))
    before = {rank - 1 - n // 2: low.static(p) for n, p in enumerate(padding) if n % 2 == 0}

    def body(index: Index) -> Expr:
        inside = const(True, DType.BOOL)
        moved = list(index)
        for d, left in before.items():
            moved[d] = build.sub(index[d], const(left))
            inside = build.logical_and(inside, build.le(const(left), index[d]))
            inside = build.logical_and(inside, build.lt(moved[d], source.shape[d]))
        return build.where(inside, low.at(source, tuple(moved)), scalar(low.number(value), dtype))

    return low.emit(meta(low), body)


@rule("diagonal", "diagonal_copy")
def _diagonal(low: Lowering, x: Any, offset: Any = 0, dim1: Any = 0, dim2: Any = 1) -> Value:
    source = low.value(x)
    rank, shift = len(source.shape), low.static(offset)
    first, second = low.static(dim1) % rank, low.static(dim2) % rank

    def body(index: Index) -> Expr:
        others = iter(index[:-1])
        place = {first: build.add(index[-1], const(max(-shift, 0))), second: build.add(index[-1], const(max(shift, 0)))}
        return low.at(source, tuple(place[d] if d in place else next(others) for d in range(rank)))

    return low.emit(meta(low), body)


@rule("flip")
def _flip(low: Lowering, x: Any, dims: Sequence[Any]) -> Value:
    source = low.value(x)
    turned = {low.static(d) % len(source.shape) for d in dims}

    def body(index: Index) -> Expr:
        last = [build.sub(e, const(1)) for e in source.shape]
        return low.at(source, tuple(build.sub(last[d], i) if d in turned else i for d, i in enumerate(index)))

    return low.emit(meta(low), body)
