"""Rules that make tensors from nothing: full, zeros, arange."""

from __future__ import annotations

from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend.aten import convert
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import scalar
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.graph import Value


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
