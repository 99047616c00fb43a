"""Rules of reductions: sums, statistics, softmax, norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
from onelaunch.frontend.aten import convert
from onelaunch.frontend.aten import lower_pointwise
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import scalar
from onelaunch.frontend.aten import to_copy
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
        return to_copy(low, x)
    d = low.static(dim) % len(source.shape)

    def body(index: Index) -> Expr:
        upto = low.reduction(build.add(index[d], const(1)))
        return build.reduce("sum", upto, convert(low.at(source, moved(index, d, upto)), dtype))

    return low.emit(meta(low), body)


@rule("_softmax", "softmax", "_safe_softmax", "_log_softmax")
def _softmax(low: Lowering, x: Any, dim: Any, *args: Any, **_: Any) -> Value:
    source = low.value(x)
    if not meta(low).dtype.is_floating_point:
        raise UnsupportedError(f"softmax to {meta(low).dtype}: torch has none")
    name = str(low.node.target)
    dtype = DType.F64 if source.dtype is DType.F64 else DType.F32
    d = low.static(dim) % max(len(source.shape), 1)

    def body(index: Index) -> Expr:
        first, second = low.reduction(source.shape[d]), low.reduction(source.shape[d])
        at = [build.cast(low.at(source, moved(index, d, v)), dtype) for v in (first, second, index[d])]
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
