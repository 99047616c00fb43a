"""The lowering table of Core ATen: from an FX node to graph nodes.

Pointwise operations are in ``pointwise.py`` (one line each); here are the operations with a structure of their own:
views, reductions, products, gathers and scatters, attention. A rule is registered under the ATen name without its
overload; it raises UnsupportedError for the cases it does not cover.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.frontend.pointwise import COMPARE
from onelaunch.frontend.pointwise import LOGICAL
from onelaunch.frontend.pointwise import POINTWISE
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.fold import to_float32
from onelaunch.graph.graph import Value

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a lowering rule; a name may be registered once."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES or name in POINTWISE:
                raise ValueError(f"two lowering rules for {name}")
            RULES[name] = function
        return function

    return register


def meta(low: Lowering) -> torch.Tensor:
    """The fake tensor that describes the node's result."""
    return low.node.meta["val"]  # type: ignore[no-any-return]


def scalar(e: Expr, dtype: DType) -> Expr:
    """A number as an operand of type ``dtype``; 16-bit floats keep the fp32 value, as ATen's kernels do."""
    if e.is_const and dtype.is_float:
        value = float(e.value)
        return const(value if dtype is DType.F64 else to_float32(value), dtype)
    return build.cast(e, dtype)


def convert(e: Expr, dtype: DType) -> Expr:
    """``e`` as another type, with torch's meaning of bool."""
    if dtype is DType.BOOL and e.dtype is not DType.BOOL:
        return pointwise(Op.NE, e, const(0, e.dtype))
    return build.cast(e, dtype)


# pointwise


def lower_pointwise(low: Lowering, name: str, *args: Any, **kwargs: Any) -> Value:
    """One line of the pointwise table, with type promotion and broadcasting."""
    out = meta(low)
    dtype = _operand_dtype(low, name, args, Lowering.dtype(out))
    kwargs.pop("memory_format", None)

    def body(index: Index) -> Expr:
        named = {k: v if v is None or isinstance(v, str) else _operand(low, v, index, dtype) for k, v in kwargs.items()}
        result = POINTWISE[name](*(_operand(low, a, index, dtype, name in COMPARE) for a in args), **named)
        return convert(result, Lowering.dtype(out))

    return low.emit(out, body)


def _operand_dtype(low: Lowering, name: str, args: Sequence[Any], out: DType) -> DType:
    """The type that an operation computes in. Integers compute in i64 and wrap when converted to a narrower result."""
    if name in LOGICAL:
        return DType.BOOL
    if name not in COMPARE:
        return DType.I64 if out.is_int else out
    metas = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in args]
    metas = [1 if isinstance(m, torch.SymInt) else m for m in metas]
    if len(metas) == 1:
        return low.value(args[0]).dtype
    found = from_torch(torch.result_type(*metas))
    if found is None:
        raise UnsupportedError(f"comparison of {metas[0].dtype} with {getattr(metas[1], 'dtype', metas[1])}")
    return found


def _compared(number: Expr, dtype: DType) -> Expr:
    """A number as an operand of a comparison, which decides by its value in the compared type."""
    if number.is_const and dtype in (DType.BF16, DType.F16):
        return const(torch.tensor(float(number.value), dtype=dtype.torch).item(), dtype)
    return scalar(number, dtype)


def _operand(low: Lowering, arg: Any, index: Index, dtype: DType, compare: bool = False) -> Any:
    if arg is None:
        return None
    found = low.env.get(arg) if isinstance(arg, torch.fx.Node) else None
    if isinstance(found, Value):
        return convert(low.at(found, views.broadcast(index, found.shape)), dtype)
    number = low.number(arg)
    return _compared(number, dtype) if compare else scalar(number, dtype)


@rule("where")
def _where(low: Lowering, condition: Any, x: Any, y: Any) -> Value:
    dtype = Lowering.dtype(meta(low))
    return low.emit(
        meta(low),
        lambda i: build.where(
            _operand(low, condition, i, DType.BOOL), _operand(low, x, i, dtype), _operand(low, y, i, dtype)
        ),
    )


@rule("masked_fill")
def _masked_fill(low: Lowering, x: Any, mask: Any, value: Any) -> Value:
    return _where(low, mask, value, x)


@rule("_to_copy", "to", "_conj", "convert_element_type")
def _to_copy(low: Lowering, x: Any, *_: Any, **__: Any) -> Value:
    source = low.value(x)
    return low.emit(meta(low), lambda i: convert(low.at(source, i), Lowering.dtype(meta(low))))


@rule("copy")
def _copy(low: Lowering, x: Any, source: Any, non_blocking: bool = False) -> Value:
    return low.emit(meta(low), lambda i: _operand(low, source, i, Lowering.dtype(meta(low))))


# creation


@rule("full", "full_like", "scalar_tensor", "new_full")
def _full(low: Lowering, *args: Any, **kwargs: Any) -> Value:
    name = str(low.node.target)
    fill = args[0] if "scalar_tensor" in name else args[2] if "new_full" in name else args[1]
    value = scalar(low.number(fill), Lowering.dtype(meta(low)))
    return low.emit(meta(low), lambda _: convert(value, Lowering.dtype(meta(low))))


@rule("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "empty_permuted", "empty_strided")
def _zeros(low: Lowering, *_: Any, **__: Any) -> Value:
    """Uninitialised memory is zero here: nothing ever reads what nobody wrote."""
    return low.emit(meta(low), lambda _: const(0, Lowering.dtype(meta(low))))


@rule("ones", "ones_like", "new_ones")
def _ones(low: Lowering, *_: Any, **__: Any) -> Value:
    return low.emit(meta(low), lambda _: const(1, Lowering.dtype(meta(low))))


@rule("arange")
def _arange(low: Lowering, *args: Any, **_: Any) -> Value:
    numbers = [low.number(a) for a in args]
    start, step = (numbers[0] if len(numbers) > 1 else const(0)), (numbers[2] if len(numbers) > 2 else const(1))
    dtype = Lowering.dtype(meta(low))

    def body(index: Index) -> Expr:
        if start.dtype.is_int and step.dtype.is_int:
            return build.cast(build.add(start, build.mul(step, index[0])), dtype)
        if not dtype.is_float:
            raise UnsupportedError("arange of integers with a start or step that is not an integer")
        steps = build.mul(scalar(step, DType.F64), build.cast(index[0], DType.F64))
        return build.cast(build.add(scalar(start, DType.F64), steps), dtype)

    return low.emit(meta(low), body)


# views


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
    begin = _start(low, start, source.shape[d])
    stride = low.static(step)
    return low.emit(meta(low), lambda i: low.at(source, _moved(i, d, build.add(begin, build.mul(i[d], const(stride))))))


def _start(low: Lowering, start: Any, extent: Expr) -> Expr:
    """The first index of a slice, with Python's meaning of negative and too large values."""
    begin = const(0) if start is None else low.number(start)
    if begin.is_const and begin.value < 0:
        begin = build.add(extent, begin)
        if begin.is_const and begin.value < 0:
            begin = const(0)
    if begin.is_const and extent.is_const:
        return const(min(int(begin.value), int(extent.value)))
    return begin


def _moved(index: Index, d: int, replacement: Expr) -> Index:
    return (*index[:d], replacement, *index[d + 1 :])


@rule("select", "select_copy")
def _select(low: Lowering, x: Any, dim: Any, position: Any) -> Value:
    source = low.value(x)
    d = low.static(dim) % len(source.shape)
    at = _wrapped(low.number(position), source.shape[d])
    return low.emit(meta(low), lambda i: low.at(source, (*i[:d], at, *i[d:])))


def _wrapped(index: Expr, extent: Expr) -> Expr:
    """An index that may be negative, counted from the end then."""
    from onelaunch.graph.index import bounds

    found = bounds(index)
    if found is not None and found[0] >= 0:
        return index
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
            low.emit(piece, lambda i, b=begin: low.at(source, _moved(i, d, build.add(b, i[d]))), suffix=f"_{number}")
        )
        offset = build.add(offset, low.number(size))
    return parts


@rule("split", "split_copy", "chunk", "unbind", "unbind_copy", "unsafe_split")
def _pieces(low: Lowering, x: Any, size: Any = 0, dim: Any = 0) -> list[Value]:
    if "unbind" in str(low.node.target):
        source = low.value(x)
        d = low.static(size) % len(source.shape)
        return [
            low.emit(piece, lambda i, n=number: low.at(source, (*i[:d], const(n), *i[d:])), suffix=f"_{number}")
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
            convert(low.at(s, _moved(index, d, build.sub(index[d], begin))), dtype)
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


# gathers and scatters


@rule("embedding")
def _embedding(low: Lowering, weight: Any, ids: Any, *_: Any) -> Value:
    table, rows = low.value(weight), low.value(ids)
    rank = len(rows.shape)
    return low.emit(meta(low), lambda i: low.at(table, (build.cast(low.at(rows, i[:rank]), DType.I64), i[rank])))


@rule("index_select")
def _index_select(low: Lowering, x: Any, dim: Any, ids: Any) -> Value:
    source, rows = low.value(x), low.value(ids)
    d = low.static(dim) % len(source.shape)
    return low.emit(
        meta(low), lambda i: low.at(source, _moved(i, d, build.cast(low.at(rows, i[d : d + 1]), DType.I64)))
    )


@rule("gather")
def _gather(low: Lowering, x: Any, dim: Any, ids: Any, sparse_grad: bool = False) -> Value:
    source, rows = low.value(x), low.value(ids)
    d = low.static(dim) % len(source.shape)
    return low.emit(meta(low), lambda i: low.at(source, _moved(i, d, build.cast(low.at(rows, i), DType.I64))))


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
                result.append(_wrapped(element, extent))
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
    if accumulate:
        raise UnsupportedError("index_put with accumulate=True")
    base, new = low.value(x), low.value(values)
    shape, position = _advanced(low, base, indices)
    variables = low.variables(shape)
    body = convert(low.at(new, views.broadcast(variables, new.shape)), base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, position(variables), body, base=base.name)


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
    begin = _start(low, start, base.shape[d])
    variables = low.variables(source.shape)
    target = _moved(variables, d, build.add(begin, build.mul(variables[d], const(low.static(step)))))
    body = convert(low.at(source, variables), base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, target, body, base=base.name)


@rule("select_scatter")
def _select_scatter(low: Lowering, x: Any, new: Any, dim: Any, position: Any) -> Value:
    base, source = low.value(x), low.value(new)
    d = low.static(dim) % len(base.shape)
    variables = low.variables(source.shape)
    at = _wrapped(low.number(position), base.shape[d])
    body = convert(low.at(source, variables), base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, (*variables[:d], at, *variables[d:]), body, base=base.name)


@rule("scatter")
def _scatter(low: Lowering, x: Any, dim: Any, ids: Any, new: Any, **kwargs: Any) -> Value:
    if kwargs:
        raise UnsupportedError("scatter with a reduction")
    base, rows = low.value(x), low.value(ids)
    d = low.static(dim) % len(base.shape)
    variables = low.variables(rows.shape)
    target = _moved(variables, d, build.cast(low.at(rows, variables), DType.I64))
    body = _operand(low, new, variables, base.dtype)
    return low.emit_nest(base.shape, base.dtype, variables, target, body, base=base.name)


# reductions


def _reduced(low: Lowering, source: Value, dims: Any, keepdim: bool) -> tuple[list[Expr], Callable[[Index], Index]]:
    """Fresh variables of the reduced dimensions, and the source index for an index of the result."""
    rank = len(source.shape)
    listed = [dims] if isinstance(dims, int) else list(dims or range(rank))
    over = {low.static(d) % rank for d in listed} if rank else set()
    inner = {d: const(0) if source.shape[d] is views.ONE else low.reduction(source.shape[d]) for d in sorted(over)}

    def place(index: Index) -> Index:
        outer = iter(index if not keepdim else [i for d, i in enumerate(index) if d not in over])
        return tuple(inner[d] if d in over else next(outer) for d in range(rank))

    return [v for v in inner.values() if not v.is_const], place


def _fold(kind: str, variables: list[Expr], body: Expr) -> Expr:
    for v in reversed(variables):
        body = build.reduce(kind, v, body)
    return body


def _count(variables: list[Expr]) -> Expr:
    return views.product([v.args[0] for v in variables])


def _reduce(low: Lowering, kind: str, x: Any, dims: Any, keepdim: bool) -> Value:
    source = low.value(x)
    dtype = Lowering.dtype(meta(low))
    variables, place = _reduced(low, source, dims, keepdim)
    return low.emit(meta(low), lambda i: _fold(kind, variables, convert(low.at(source, place(i)), dtype)))


@rule("sum", "sum_dim_IntList")
def _sum(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return _reduce(low, "sum", x, dims, keepdim)


@rule("amax")
def _amax(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False) -> Value:
    return _reduce(low, "max", x, dims, keepdim)


@rule("amin")
def _amin(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False) -> Value:
    return _reduce(low, "min", x, dims, keepdim)


@rule("prod")
def _prod(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    return _reduce(low, "prod", x, dims, keepdim)


@rule("argmax")
def _argmax(low: Lowering, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    return low.emit(meta(low), _position(low, "max", low.value(x), dim, keepdim))


@rule("argmin")
def _argmin(low: Lowering, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    return low.emit(meta(low), _position(low, "min", low.value(x), dim, keepdim))


@rule("max")
def _max(low: Lowering, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return _extreme(low, "max", x, dim, keepdim)


@rule("min")
def _min(low: Lowering, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return _extreme(low, "min", x, dim, keepdim)


def _extreme(low: Lowering, kind: str, x: Any, dim: Any, keepdim: bool) -> Any:
    """``max(x)``, ``max(x, y)`` of two tensors, or ``max(x, dim)``: values and the places of the first of them."""
    if isinstance(dim, torch.fx.Node):
        return lower_pointwise(low, f"{kind}imum", x, dim)
    if dim is None:
        return _reduce(low, kind, x, None, False)
    source = low.value(x)
    values, places = low.node.meta["val"]
    variables, place = _reduced(low, source, dim, keepdim)
    return [
        low.emit(values, lambda i: _fold(kind, variables, low.at(source, place(i))), suffix="_0"),
        low.emit(places, _position(low, kind, source, dim, keepdim), suffix="_1"),
    ]


def _position(low: Lowering, kind: str, source: Value, dim: Any, keepdim: bool) -> Callable[[Index], Expr]:
    """The first place of the extreme (of a NaN, where there is one) along a dimension, or in the flattened tensor."""
    first, place_first = _reduced(low, source, dim, keepdim)
    second, place_second = _reduced(low, source, dim, keepdim)
    over = range(len(source.shape)) if dim is None or not source.shape else [low.static(dim) % len(source.shape)]

    def body(index: Index) -> Expr:
        top = _fold(kind, first, low.at(source, place_first(index)))
        at = place_second(index)
        element, place = low.at(source, at), const(0)
        for d in over:
            place = build.add(build.mul(place, source.shape[d]), at[d])
        found = build.eq(element, top)
        if element.dtype.is_float:
            found = pointwise(Op.OR, found, pointwise(Op.ISNAN, element))
        end = views.product([source.shape[d] for d in over])
        return _fold("min", second, build.where(found, place, end))

    return body


@rule("any")
def _any(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False) -> Value:
    return _reduce_bool(low, "max", x, dims, keepdim)


@rule("all")
def _all(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False) -> Value:
    return _reduce_bool(low, "min", x, dims, keepdim)


def _reduce_bool(low: Lowering, kind: str, x: Any, dims: Any, keepdim: bool) -> Value:
    source = low.value(x)
    variables, place = _reduced(low, source, dims, keepdim)

    def body(index: Index) -> Expr:
        as_int = build.cast(convert(low.at(source, place(index)), DType.BOOL), DType.I64)
        return convert(_fold(kind, variables, as_int), DType.BOOL)

    return low.emit(meta(low), body)


@rule("mean")
def _mean(low: Lowering, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    source = low.value(x)
    dtype = Lowering.dtype(meta(low))
    variables, place = _reduced(low, source, dims, keepdim)
    return low.emit(meta(low), lambda i: _average(variables, convert(low.at(source, place(i)), dtype)))


def _average(variables: list[Expr], body: Expr) -> Expr:
    return pointwise(Op.DIV, _fold("sum", variables, body), scalar(_count(variables), body.dtype))


@rule("linalg_vector_norm")
def _vector_norm(low: Lowering, x: Any, order: Any = 2, dims: Any = None, keepdim: bool = False, **_: Any) -> Value:
    source = low.value(x)
    dtype = Lowering.dtype(meta(low))
    variables, place = _reduced(low, source, dims, keepdim)
    exponent = float(low.number(order).value)

    def body(index: Index) -> Expr:
        size = pointwise(Op.ABS, convert(low.at(source, place(index)), dtype))
        if abs(exponent) == math.inf:
            return _fold("max" if exponent > 0 else "min", variables, size)
        if exponent == 0:
            return _fold("sum", variables, build.cast(pointwise(Op.NE, size, const(0.0, dtype)), dtype))
        if exponent == 1:
            return _fold("sum", variables, size)
        if exponent == 2:
            return pointwise(Op.SQRT, _fold("sum", variables, build.mul(size, size)))
        total = _fold("sum", variables, pointwise(Op.POW, size, scalar(const(exponent, DType.F64), dtype)))
        return pointwise(Op.POW, total, scalar(const(1 / exponent, DType.F64), dtype))

    return low.emit(meta(low), body)


@rule("var")
def _var(low: Lowering, x: Any, dims: Any = None, correction: Any = 1, keepdim: bool = False) -> Value:
    return low.emit(meta(low), _variance(low, x, dims, correction, keepdim))


@rule("var_mean")
def _var_mean(low: Lowering, x: Any, dims: Any = None, correction: Any = 1, keepdim: bool = False) -> list[Value]:
    metas, source = low.node.meta["val"], low.value(x)
    variables, place = _reduced(low, source, None if isinstance(dims, bool) else dims, keepdim)
    dtype = Lowering.dtype(metas[1])
    return [
        low.emit(metas[0], _variance(low, x, dims, correction, keepdim), suffix="_0"),
        low.emit(metas[1], lambda i: _average(variables, convert(low.at(source, place(i)), dtype)), suffix="_1"),
    ]


def _variance(low: Lowering, x: Any, dims: Any, correction: Any, keepdim: bool) -> Callable[[Index], Expr]:
    if isinstance(dims, bool):  # var(x, unbiased)
        dims, correction = None, dims
    correction = scalar(low.number(1 if correction is None else float(correction)), DType.F64)
    source = low.value(x)
    dtype = source.dtype
    first, place_first = _reduced(low, source, dims, keepdim)
    second, place_second = _reduced(low, source, dims, keepdim)

    def body(index: Index) -> Expr:
        average = _average(first, low.at(source, place_first(index)))
        delta = build.sub(low.at(source, place_second(index)), average)
        total = _fold("sum", second, build.mul(delta, delta))
        freedom = build.sub(build.cast(_count(second), DType.F64), correction)
        return pointwise(Op.DIV, total, scalar(pointwise(Op.MAX, freedom, const(0.0, DType.F64)), dtype))

    return body


@rule("cumsum")
def _cumsum(low: Lowering, x: Any, dim: Any, **_: Any) -> Value:
    source = low.value(x)
    dtype = Lowering.dtype(meta(low))
    if not source.shape:
        return _to_copy(low, x)
    d = low.static(dim) % len(source.shape)

    def body(index: Index) -> Expr:
        upto = low.reduction(build.add(index[d], const(1)))
        return build.reduce("sum", upto, convert(low.at(source, _moved(index, d, upto)), dtype))

    return low.emit(meta(low), body)


@rule("_softmax", "softmax", "_safe_softmax", "_log_softmax")
def _softmax(low: Lowering, x: Any, dim: Any, *args: Any, **_: Any) -> Value:
    source = low.value(x)
    name = str(low.node.target)
    dtype = DType.F64 if source.dtype is DType.F64 else DType.F32
    d = low.static(dim) % max(len(source.shape), 1)

    def body(index: Index) -> Expr:
        first, second = low.reduction(source.shape[d]), low.reduction(source.shape[d])
        at = [build.cast(low.at(source, _moved(index, d, v)), dtype) for v in (first, second, index[d])]
        top = build.reduce("max", first, at[0])
        if "safe" in name:
            top = pointwise(Op.MAX, top, const(-3.4028234663852886e38, dtype))
        total = build.reduce("sum", second, pointwise(Op.EXP, build.sub(at[1], top)))
        if "log" in name:
            return build.sub(build.sub(at[2], top), pointwise(Op.LOG, total))
        quotient = pointwise(Op.DIV, pointwise(Op.EXP, build.sub(at[2], top)), total)
        if "safe" in name:
            quotient = build.where(build.eq(total, const(0.0, dtype)), const(0.0, dtype), quotient)
        return quotient

    if not source.shape or source.shape[d] is views.ONE:
        return low.emit(meta(low), lambda i: _softmax_of_one(low.at(source, i), name))
    mark = (source.name, d) if "log" not in name else None
    return low.emit(meta(low), body, softmax=mark)


def _softmax_of_one(x: Expr, name: str) -> Expr:
    """exp(x - x) / exp(x - x): 1, but NaN for NaN and infinities (0 for -inf in the safe form)."""
    delta = build.sub(x, x)
    if "log" in name:
        return delta
    one = pointwise(Op.EXP, delta)
    if "safe" in name:
        return build.where(build.eq(x, const(-math.inf, x.dtype)), const(0.0, x.dtype), one)
    return one


@rule("native_layer_norm", "layer_norm")
def _layer_norm(low: Lowering, x: Any, sizes: Any, weight: Any, bias: Any, eps: float, *_: Any) -> Any:
    source = low.value(x)
    outs = low.node.meta["val"]
    several = isinstance(outs, tuple | list)
    rank, over = len(source.shape), len(sizes)
    dtype = DType.F64 if source.dtype is DType.F64 else DType.F32

    def statistics(index: Index) -> tuple[Expr, Expr]:
        lead = tuple(index[: rank - over])
        inner = [tuple(low.reduction(e) for e in source.shape[rank - over :]) for _ in range(2)]
        at = [build.cast(low.at(source, (*lead, *v)), dtype) for v in inner]
        average = _average(list(inner[0]), at[0])
        delta = build.sub(at[1], average)
        variance = _average(list(inner[1]), build.mul(delta, delta))
        return average, pointwise(Op.RSQRT, build.add(variance, scalar(const(eps, DType.F64), dtype)))

    def body(index: Index) -> Expr:
        average, scale = statistics(index)
        result = build.mul(build.sub(build.cast(low.at(source, index), dtype), average), scale)
        for parameter, combine in ((weight, build.mul), (bias, build.add)):
            if parameter is not None:
                p = low.value(parameter)
                result = combine(result, build.cast(low.at(p, index[rank - over :]), dtype))
        return result

    if not several:
        return low.emit(outs, body)
    values = [low.emit(outs[0], body, suffix="_0")]
    values.append(low.emit(outs[1], lambda i: statistics(i)[0], suffix="_1"))
    values.append(low.emit(outs[2], lambda i: statistics(i)[1], suffix="_2"))
    return values


# products


@rule("mm")
def _mm(low: Lowering, a: Any, b: Any) -> Value:
    left, right = low.value(a), low.value(b)

    def body(index: Index) -> Expr:
        k = low.reduction(left.shape[1]) if left.shape[1] is not views.ONE else const(0)
        return _product(low.at(left, (index[0], k)), low.at(right, (k, index[1])), k)

    return low.emit(meta(low), body)


def _product(x: Expr, y: Expr, k: Expr) -> Expr:
    return build.mul(x, y) if k.is_const else build.reduce("sum", k, build.mul(x, y))


@rule("bmm")
def _bmm(low: Lowering, a: Any, b: Any) -> Value:
    left, right = low.value(a), low.value(b)

    def body(index: Index) -> Expr:
        k = low.reduction(left.shape[2]) if left.shape[2] is not views.ONE else const(0)
        return _product(low.at(left, (index[0], index[1], k)), low.at(right, (index[0], k, index[2])), k)

    return low.emit(meta(low), body)


@rule("addmm", "baddbmm")
def _addmm(low: Lowering, c: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Value:
    bias, left, right = low.value(c), low.value(a), low.value(b)
    dtype = Lowering.dtype(meta(low))

    def body(index: Index) -> Expr:
        last = left.shape[-1]
        k = low.reduction(last) if last is not views.ONE else const(0)
        total = _product(low.at(left, (*index[:-1], k)), low.at(right, (*index[:-2], k, index[-1])), k)
        if alpha != 1:
            total = build.mul(total, scalar(low.number(alpha), dtype))
        if beta == 0:  # whatever the bias holds
            return total
        added = low.at(bias, views.broadcast(index, bias.shape))
        if beta != 1:
            added = build.mul(added, scalar(low.number(beta), dtype))
        return build.add(total, added)

    return low.emit(meta(low), body)


@rule("mv", "dot")
def _mv(low: Lowering, a: Any, b: Any) -> Value:
    left, right = low.value(a), low.value(b)

    def body(index: Index) -> Expr:
        k = low.reduction(left.shape[-1]) if left.shape[-1] is not views.ONE else const(0)
        return _product(low.at(left, (*index, k)), low.at(right, (k,)), k)

    return low.emit(meta(low), body)


@rule("linear")
def _linear(low: Lowering, x: Any, weight: Any, bias: Any = None) -> Value:
    source, matrix = low.value(x), low.value(weight)

    def body(index: Index) -> Expr:
        k = low.reduction(source.shape[-1]) if source.shape[-1] is not views.ONE else const(0)
        total = _product(low.at(source, (*index[:-1], k)), low.at(matrix, (index[-1], k)), k)
        return total if bias is None else build.add(total, low.at(low.value(bias), index[-1:]))

    return low.emit(meta(low), body)


# integers of the graph


def lower_integer(low: Lowering, name: str, *args: Any) -> Expr:
    """Arithmetic on run-time sizes (``operator.add``, ``sym_size``)."""
    if name in ("sym_size", "sym_size.int"):
        return low.value(args[0]).shape[low.static(args[1])]
    table = {"add": build.add, "sub": build.sub, "mul": build.mul, "floordiv": build.floordiv, "mod": build.mod}
    if name not in table:
        raise UnsupportedError(f"integer operation {name} on a run-time size")
    return table[name](low.number(args[0]), low.number(args[1]))
