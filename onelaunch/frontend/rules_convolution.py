"""Rules of convolutions and group norms: reductions over channels and a window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
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
from onelaunch.program.program import maximum

MOST = 256  # products an element: a convolution with more is a product of matrices in disguise, which torch does better


@rule("convolution")
def _convolution(
    low: Lowering, x: Any, w: Any, bias: Any, stride: Sequence[Any], padding: Sequence[Any], dilation: Sequence[Any],
    transposed: bool, output_padding: Sequence[Any], groups: Any,
) -> Value:  # fmt: skip
    source, weight = low.value(x), low.value(w)
    if transposed:
        raise UnsupportedError("transposed convolution")
    rank = len(weight.shape) - 2
    if len(source.shape) != rank + 2:
        raise UnsupportedError("convolution without a batch")
    count = math.prod(maximum(e) for e in weight.shape[1:])
    if count > MOST:
        raise UnsupportedError(f"convolution of {count} products an element; accepted: {MOST} or fewer")
    steps, before, apart = ([low.static(n) for n in _each(o, rank)] for o in (stride, padding, dilation))
    share = build.floordiv(weight.shape[0], low.static(groups))  # output channels of a group

    def body(index: Index) -> Expr:
        window = [const(0) if e is views.ONE else low.reduction(e) for e in weight.shape[1:]]
        group = build.floordiv(index[1], share)
        place: list[Expr] = [index[0], build.add(build.mul(group, weight.shape[1]), window[0])]
        inside = const(True, DType.BOOL)
        for d, (i, k) in enumerate(zip(index[2:], window[1:], strict=True)):
            at = build.add(build.mul(i, const(steps[d])), build.mul(k, const(apart[d])))
            at = build.sub(at, const(before[d]))
            inside = build.logical_and(inside, build.le(const(0), at))
            inside = build.logical_and(inside, build.lt(at, source.shape[d + 2]))
            place.append(at)
        factor = low.at(weight, (index[1], *window))
        total = build.mul(build.where(inside, low.at(source, tuple(place)), const(0, source.dtype)), factor)
        for k in reversed(window):
            total = total if k.is_const else build.reduce("sum", k, total)
        return total if bias is None else build.add(total, low.at(low.value(bias), index[1:2]))

    return low.emit(meta(low), body)


def _each(option: Sequence[Any], rank: int) -> list[Any]:
    return list(option) * rank if len(option) == 1 else list(option)


@rule("native_group_norm")
def _group_norm(
    low: Lowering, x: Any, weight: Any, bias: Any, n: Any, c: Any, hw: Any, groups: Any, eps: float
) -> list[Value]:
    source, outs = low.value(x), low.node.meta["val"]
    number = low.static(groups)
    size = build.floordiv(source.shape[1], number)  # channels of a group
    dtype = DType.F64 if source.dtype is DType.F64 else DType.F32

    def statistics(row: Expr, group: Expr) -> tuple[Expr, Expr]:
        inner = [[const(0) if e is views.ONE else low.reduction(e) for e in (size, *source.shape[2:])] for _ in "12"]
        at = [build.cast(low.at(source, (row, build.add(build.mul(group, size), v[0]), *v[1:])), dtype) for v in inner]
        average = _average(inner[0], at[0])
        delta = build.sub(at[1], average)
        variance = _average(inner[1], build.mul(delta, delta))
        return average, pointwise(Op.RSQRT, build.add(variance, scalar(const(eps, DType.F64), dtype)))

    def body(index: Index) -> Expr:
        average, scale = statistics(index[0], build.floordiv(index[1], size))
        result = build.mul(build.sub(build.cast(low.at(source, index), dtype), average), scale)
        for parameter, combine in ((weight, build.mul), (bias, build.add)):
            if parameter is not None:
                result = combine(result, build.cast(low.at(low.value(parameter), index[1:2]), dtype))
        return result

    values = [low.emit(outs[0], body, suffix="_0")]
    values.append(low.emit(outs[1], lambda i: statistics(i[0], i[1])[0], suffix="_1"))
    values.append(low.emit(outs[2], lambda i: statistics(i[0], i[1])[1], suffix="_2"))
    return values


def _average(variables: Sequence[Expr], body: Expr) -> Expr:
    bound = [v for v in variables if not v.is_const]
    for v in reversed(bound):
        body = build.reduce("sum", v, body)
    return pointwise(Op.DIV, body, scalar(views.product([v.args[0] for v in bound]), body.dtype))
