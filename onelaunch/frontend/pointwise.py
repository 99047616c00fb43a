"""The pointwise table: one line an ATen operation, from operands (expressions of the promoted type) to an expression.

Formulas are those of the ATen reference implementations; constants of gelu and erf-gelu from Hendrycks and Gimpel
(arXiv:1606.08415). Operands of comparisons keep the type that the comparison is made in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onelaunch.errors import UnsupportedError
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op


def _like(value: float, x: Expr) -> Expr:
    return const(value, x.dtype)


def _sigmoid(x: Expr) -> Expr:
    return pointwise(Op.SIGMOID, x)


def _not(x: Expr) -> Expr:
    return pointwise(Op.NOT, x)


def _scaled(alpha: Expr | float, x: Expr) -> Expr:
    value = alpha if isinstance(alpha, Expr) else const(alpha, x.dtype)
    return build.mul(x, build.cast(value, x.dtype))


def _gelu(x: Expr, approximate: str = "none") -> Expr:
    half = build.mul(x, _like(0.5, x))
    if approximate == "tanh":
        cube = build.mul(build.mul(x, x), x)
        inner = build.mul(
            _like(math.sqrt(2 / math.pi), x), build.add(x, build.mul(_like(0.044715, x), cube))
        )
        return build.mul(half, build.add(_like(1.0, x), pointwise(Op.TANH, inner)))
    return build.mul(half, build.add(_like(1.0, x), pointwise(Op.ERF, build.mul(x, _like(math.sqrt(0.5), x)))))


def _pow(x: Expr, y: Expr) -> Expr:
    if y.is_const:
        if y.value == 2:
            return build.mul(x, x)
        if y.value == 3:
            return build.mul(build.mul(x, x), x)
        if x.dtype.is_float and y.value in (0.5, -0.5, -1):
            if y.value == -1:
                return pointwise(Op.DIV, _like(1.0, x), x)
            return pointwise(Op.SQRT if y.value > 0 else Op.RSQRT, x)
    return pointwise(Op.POW, x, y)


def _div(x: Expr, y: Expr, rounding_mode: str | None = None) -> Expr:
    if rounding_mode == "floor":
        if x.dtype.is_int:
            return build.floordiv(x, y)
        return pointwise(Op.FLOOR, pointwise(Op.DIV, x, y))
    if rounding_mode == "trunc":
        if x.dtype.is_int:
            raise UnsupportedError("integer division that rounds towards zero")
        return pointwise(Op.TRUNC, pointwise(Op.DIV, x, y))
    return pointwise(Op.DIV, x, y)


def _clamp(x: Expr, low: Expr | None = None, high: Expr | None = None) -> Expr:
    if low is not None:
        x = pointwise(Op.MAX, x, build.cast(low, x.dtype))
    return x if high is None else pointwise(Op.MIN, x, build.cast(high, x.dtype))


def _leaky(x: Expr, slope: Expr | None = None) -> Expr:
    factor = build.cast(slope, x.dtype) if slope is not None else _like(0.01, x)
    return build.where(build.lt(_like(0.0, x), x), x, build.mul(x, factor))


def _softplus(x: Expr, beta: Expr | None = None, threshold: Expr | None = None) -> Expr:
    b = build.cast(beta, x.dtype) if beta is not None else _like(1.0, x)
    t = build.cast(threshold, x.dtype) if threshold is not None else _like(20.0, x)
    scaled = build.mul(x, b)
    soft = pointwise(Op.DIV, pointwise(Op.LOG1P, pointwise(Op.EXP, scaled)), b)
    return build.where(build.lt(t, scaled), x, soft)


def _fmod(x: Expr, y: Expr) -> Expr:
    from onelaunch.graph.index import bounds

    low = bounds(x) if x.dtype.is_int else None
    if low is not None and low[0] >= 0:
        return build.mod(x, y)
    return pointwise(Op.FMOD, x, y)


POINTWISE: dict[str, Callable[..., Expr]] = {
    "add": lambda x, y, alpha=1: build.add(x, y if alpha == 1 else _scaled(alpha, y)),
    "sub": lambda x, y, alpha=1: build.sub(x, y if alpha == 1 else _scaled(alpha, y)),
    "rsub": lambda x, y, alpha=1: build.sub(y, x if alpha == 1 else _scaled(alpha, x)),
    "mul": build.mul,
    "div": _div,
    "true_divide": _div,
    "floor_divide": lambda x, y: _div(x, y, "floor"),
    "remainder": build.mod,
    "fmod": _fmod,
    "pow": _pow,
    "square": lambda x: build.mul(x, x),
    "neg": lambda x: build.sub(const(0), x) if x.dtype is DType.I64 else pointwise(Op.NEG, x),
    "abs": lambda x: pointwise(Op.ABS, x),
    "sign": lambda x: pointwise(Op.SIGN, x),
    "reciprocal": lambda x: pointwise(Op.DIV, _like(1.0, x), x),
    "sqrt": lambda x: pointwise(Op.SQRT, x),
    "rsqrt": lambda x: pointwise(Op.RSQRT, x),
    "exp": lambda x: pointwise(Op.EXP, x),
    "exp2": lambda x: pointwise(Op.EXP, build.mul(x, _like(math.log(2), x))),
    "expm1": lambda x: pointwise(Op.EXPM1, x),
    "log": lambda x: pointwise(Op.LOG, x),
    "log2": lambda x: pointwise(Op.LOG2, x),
    "log1p": lambda x: pointwise(Op.LOG1P, x),
    "sin": lambda x: pointwise(Op.SIN, x),
    "cos": lambda x: pointwise(Op.COS, x),
    "tanh": lambda x: pointwise(Op.TANH, x),
    "sigmoid": _sigmoid,
    "silu": lambda x: build.mul(x, _sigmoid(x)),
    "gelu": _gelu,
    "relu": lambda x: pointwise(Op.MAX, x, _like(0, x)),
    "leaky_relu": _leaky,
    "softplus": _softplus,
    "hardtanh": lambda x, low=None, high=None: _clamp(x, low or _like(-1.0, x), high or _like(1.0, x)),
    "erf": lambda x: pointwise(Op.ERF, x),
    "erfinv": lambda x: pointwise(Op.ERFINV, x),
    "floor": lambda x: pointwise(Op.FLOOR, x),
    "ceil": lambda x: pointwise(Op.CEIL, x),
    "trunc": lambda x: pointwise(Op.TRUNC, x),
    "round": lambda x: pointwise(Op.ROUND, x),
    "atan2": lambda x, y: pointwise(Op.ATAN2, x, y),
    "minimum": lambda x, y: pointwise(Op.MIN, x, y),
    "maximum": lambda x, y: pointwise(Op.MAX, x, y),
    "clamp": _clamp,
    "clamp_min": lambda x, low: _clamp(x, low),
    "clamp_max": lambda x, high: _clamp(x, None, high),
    "bitwise_and": build.logical_and,
    "bitwise_or": lambda x, y: pointwise(Op.OR, x, y),
    "bitwise_xor": lambda x, y: pointwise(Op.XOR, x, y),
    "bitwise_not": _not,
    "logical_and": build.logical_and,
    "logical_or": lambda x, y: pointwise(Op.OR, x, y),
    "logical_xor": lambda x, y: pointwise(Op.XOR, x, y),
    "logical_not": _not,
    "eq": build.eq,
    "ne": lambda x, y: pointwise(Op.NE, x, y),
    "lt": build.lt,
    "le": build.le,
    "gt": lambda x, y: build.lt(y, x),
    "ge": lambda x, y: build.le(y, x),
    "isnan": lambda x: pointwise(Op.ISNAN, x),
    "isinf": lambda x: build.eq(pointwise(Op.ABS, x), _like(math.inf, x)),
    "clone": lambda x: x,
    "alias": lambda x: x,
    "detach": lambda x: x,
    "lift_fresh_copy": lambda x: x,
    "contiguous": lambda x: x,
}
COMPARE = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"})
LOGICAL = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not"})  # operands become bool first
