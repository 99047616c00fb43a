"""Operations of expressions in torch, in the type that arithmetic is done in (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import COMPARISONS
from onelaunch.graph.expr import Op


def convert(value: torch.Tensor, dtype: DType) -> torch.Tensor:
    """``value`` rounded to ``dtype`` and held in the type that ``dtype`` computes in."""
    return value.to(dtype.torch).to(dtype.compute.torch)


def apply(op: Op, args: list[torch.Tensor], dtype: DType) -> torch.Tensor:
    """One pointwise operation with a result of ``dtype``."""
    if op is Op.CAST:
        return convert(args[0], dtype)
    if op not in COMPARISONS:
        args = [a.to(dtype.compute.torch) for a in args]
    return POINTWISE[op](*args)


def _floordiv(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.div(a, b, rounding_mode="floor")


def _identity(kind: str, dtype: torch.dtype) -> Any:
    if kind in ("sum", "prod"):
        return 0 if kind == "sum" else 1
    if dtype is torch.bool:
        return kind == "min"
    if dtype.is_floating_point:
        return float("-inf") if kind == "max" else float("inf")
    return torch.iinfo(dtype).min if kind == "max" else torch.iinfo(dtype).max


def reduce(kind: str, body: torch.Tensor, axis: int, extent: int, inside: torch.Tensor | None) -> torch.Tensor:
    """``kind`` of ``body`` over ``axis`` (kept with size 1), which has ``extent`` positions; ``inside`` masks them."""
    if body.dim() < -axis:
        body = body.reshape((1,) * (-axis - body.dim()) + tuple(body.shape))
    if body.shape[axis] != extent:
        shape = list(body.shape)
        shape[axis] = extent
        body = body.expand(shape)
    if inside is not None:
        body = torch.where(inside, body, torch.full((), _identity(kind, body.dtype), dtype=body.dtype))
    if extent == 0:
        shape = list(body.shape)
        shape[axis] = 1
        return torch.full(shape, _identity(kind, body.dtype), dtype=body.dtype)
    if kind == "sum":
        return body.sum(axis, keepdim=True, dtype=body.dtype)
    if kind == "prod":
        return body.prod(axis, keepdim=True, dtype=body.dtype)
    return body.amax(axis, keepdim=True) if kind == "max" else body.amin(axis, keepdim=True)


POINTWISE: dict[Op, Callable[..., torch.Tensor]] = {
    Op.ADD: torch.add, Op.SUB: torch.sub, Op.MUL: torch.mul, Op.MIN: torch.minimum, Op.MAX: torch.maximum,
    Op.NEG: torch.neg, Op.ABS: torch.abs, Op.POW: torch.pow, Op.FLOORDIV: _floordiv, Op.MOD: torch.remainder,
    Op.FMOD: torch.fmod, Op.DIV: torch.true_divide, Op.TRUNC: torch.trunc, Op.FLOOR: torch.floor, Op.CEIL: torch.ceil,
    Op.ROUND: torch.round, Op.SIGN: torch.sign, Op.EXP: torch.exp, Op.EXPM1: torch.expm1, Op.LOG: torch.log,
    Op.LOG1P: torch.log1p, Op.LOG2: torch.log2, Op.SQRT: torch.sqrt, Op.RSQRT: torch.rsqrt, Op.SIN: torch.sin,
    Op.COS: torch.cos, Op.TANH: torch.tanh, Op.SIGMOID: torch.sigmoid, Op.ERF: torch.erf, Op.ERFINV: torch.erfinv,
    Op.ATAN2: torch.atan2, Op.ISNAN: torch.isnan, Op.LT: torch.lt, Op.LE: torch.le, Op.EQ: torch.eq, Op.NE: torch.ne,
    Op.AND: torch.bitwise_and, Op.OR: torch.bitwise_or, Op.XOR: torch.bitwise_xor, Op.NOT: torch.bitwise_not,
}  # fmt: skip
