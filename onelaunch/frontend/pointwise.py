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


def _scaled(x: Expr, alpha: Expr | None) -> Expr:
    return x if alpha is None else build.mul(x, alpha)


def _gelu(x: Expr, approximate: str = "none") -> Expr:
    if not x.dtype.is_float:
        raise UnsupportedError(f"gelu of {x.dtype}: torch has none")
    half = build.mul(x, _like(0.5, x))
    if approximate == "tanh":
        cube = build.mul(build.mul(x, x), x)
        inner = build.mul(_like(math.sqrt(2 / math.pi), x), build.add(x, build.mul(_like(0.044715, x), cube)))
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
        return build.floordiv(x, y) if x.dtype.is_int else _floor_divide(x, y)
    if rounding_mode == "trunc":
        if x.dtype.is_int:
            zero = _like(0, x)
            quotient = build.floordiv(pointwise(Op.ABS, x), pointwise(Op.ABS, y))
            opposite = pointwise(Op.NE, build.lt(x, zero), build.lt(y, zero))
            return build.where(opposite, build.sub(zero, quotient), quotient)
        return pointwise(Op.TRUNC, pointwise(Op.DIV, x, y))
    return pointwise(Op.DIV, x, y)


def _floor_divide(x: Expr, y: Expr) -> Expr:
    """The largest integer not above the exact quotient, which a rounded quotient may have passed (1.0 // 0.1 is 9)."""
    zero, one = _like(0.0, x), _like(1.0, x)
    rest = pointwise(Op.FMOD, x, y)
    quotient = pointwise(Op.DIV, build.sub(x, rest), y)
    opposite = pointwise(Op.NE, build.lt(y, zero), build.lt(rest, zero))
    down = build.logical_and(pointwise(Op.NE, rest, zero), opposite)
    quotient = build.where(down, build.sub(quotient, one), quotient)
    floor = pointwise(Op.FLOOR, quotient)
    floor = build.where(build.lt(_like(0.5, x), build.sub(quotient, floor)), build.add(floor, one), floor)
    ratio = pointwise(Op.DIV, x, y)
    floor = build.where(build.eq(quotient, zero), build.mul(zero, ratio), floor)  # a zero of the quotient's sign
    return build.where(build.eq(y, zero), ratio, floor)


def _clamp(x: Expr, min: Expr | None = None, max: Expr | None = None) -> Expr:
    if min is not None:
        x = pointwise(Op.MAX, x, build.cast(min, x.dtype))
    return x if max is None else pointwise(Op.MIN, x, build.cast(max, x.dtype))


def _leaky(x: Expr, slope: Expr | None = None) -> Expr:
    factor = build.cast(slope, x.dtype) if slope is not None else _like(0.01, x)
    return build.where(build.lt(_like(0.0, x), x), x, build.mul(x, factor))


def _elu(x: Expr, alpha: Expr | None = None, scale: Expr | None = None, input_scale: Expr | None = None) -> Expr:
    a, s, i = (_like(1.0, x) if e is None else e for e in (alpha, scale, input_scale))
    low = build.mul(build.mul(a, pointwise(Op.EXPM1, build.mul(x, i))), s)
    return build.where(build.lt(_like(0.0, x), x), build.mul(x, s), low)


def _sinh(x: Expr) -> Expr:
    """(expm1(x) - expm1(-x)) / 2: exact near 0."""
    both = build.sub(pointwise(Op.EXPM1, x), pointwise(Op.EXPM1, pointwise(Op.NEG, x)))
    return build.mul(both, _like(0.5, x))


def _cosh(x: Expr) -> Expr:
    return build.mul(build.add(pointwise(Op.EXP, x), pointwise(Op.EXP, pointwise(Op.NEG, x))), _like(0.5, x))


def _cathetus(x: Expr) -> Expr:
    """sqrt(1 - x^2)."""
    one = _like(1.0, x)
    return pointwise(Op.SQRT, build.mul(build.sub(one, x), build.add(one, x)))


def _atanh(x: Expr) -> Expr:
    """log1p(2x / (1 - x)) / 2: exact near 0."""
    ratio = pointwise(Op.DIV, build.mul(x, _like(2.0, x)), build.sub(_like(1.0, x), x))
    return build.mul(pointwise(Op.LOG1P, ratio), _like(0.5, x))


_LARGE = 2.0**30  # from here on x^2 + 1 and x^2 - 1 are x^2


def _asinh(x: Expr) -> Expr:
    """sign(x) log(|x| + sqrt(x^2 + 1)), exact near 0 and without x^2 where that would overflow."""
    size, one = pointwise(Op.ABS, x), _like(1.0, x)
    square = build.mul(x, x)
    root = pointwise(Op.SQRT, build.add(square, one))
    small = pointwise(Op.LOG1P, build.add(size, pointwise(Op.DIV, square, build.add(one, root))))
    large = build.add(pointwise(Op.LOG, size), _like(math.log(2), x))
    found = build.where(build.lt(_like(_LARGE, x), size), large, small)
    return build.where(_is_negative(x), pointwise(Op.NEG, found), found)


def _acosh(x: Expr) -> Expr:
    """log(x + sqrt(x^2 - 1)), exact near 1; NaN below."""
    above = build.sub(x, _like(1.0, x))
    square = build.mul(above, build.add(above, _like(2.0, x)))
    square = build.where(build.lt(above, _like(0.0, x)), _like(-1.0, x), square)
    small = pointwise(Op.LOG1P, build.add(above, pointwise(Op.SQRT, square)))
    large = build.add(pointwise(Op.LOG, x), _like(math.log(2), x))
    return build.where(build.lt(_like(_LARGE, x), x), large, small)


def _is_negative(x: Expr) -> Expr:
    """Whether the sign is minus, also of a zero. (A NaN has none here.)"""
    below = build.lt(x, _like(0, x))
    if not x.dtype.is_float:
        return below
    zero = build.eq(x, _like(0.0, x))
    inverse = pointwise(Op.DIV, _like(1.0, x), x)
    return pointwise(Op.OR, below, build.logical_and(zero, build.lt(inverse, _like(0.0, x))))


def _copysign(x: Expr, y: Expr) -> Expr:
    size = pointwise(Op.ABS, x)
    return build.where(_is_negative(y), pointwise(Op.NEG, size), size)


def _hypot(x: Expr, y: Expr) -> Expr:
    """sqrt(x^2 + y^2), scaled so that no square overflows or vanishes."""
    a, b = pointwise(Op.ABS, x), pointwise(Op.ABS, y)
    most, least, endless = pointwise(Op.MAX, a, b), pointwise(Op.MIN, a, b), _like(math.inf, x)
    ratio = pointwise(Op.DIV, least, most)
    root = pointwise(Op.SQRT, build.add(build.mul(ratio, ratio), _like(1.0, x)))
    found = build.where(build.eq(most, _like(0.0, x)), most, build.mul(most, root))
    return build.where(pointwise(Op.OR, build.eq(a, endless), build.eq(b, endless)), endless, found)


def _isinf(x: Expr) -> Expr:
    return build.eq(pointwise(Op.ABS, x), _like(math.inf, x)) if x.dtype.is_float else const(False, DType.BOOL)


def _isnan(x: Expr) -> Expr:
    return pointwise(Op.ISNAN, x) if x.dtype.is_float else const(False, DType.BOOL)


def _softplus(x: Expr, beta: Expr | None = None, threshold: Expr | None = None) -> Expr:
    b = build.cast(beta, x.dtype) if beta is not None else _like(1.0, x)
    t = build.cast(threshold, x.dtype) if threshold is not None else _like(20.0, x)
    scaled = build.mul(x, b)
    soft = pointwise(Op.DIV, pointwise(Op.LOG1P, pointwise(Op.EXP, scaled)), b)
    return build.where(build.lt(t, scaled), x, soft)


POINTWISE: dict[str, Callable[..., Expr]] = {
    "add": lambda x, y, alpha=None: build.add(x, _scaled(y, alpha)),
    "sub": lambda x, y, alpha=None: build.sub(x, _scaled(y, alpha)),
    "rsub": lambda x, y, alpha=None: build.sub(y, _scaled(x, alpha)),
    "mul": build.mul,
    "div": _div,
    "true_divide": _div,
    "floor_divide": lambda x, y: _div(x, y, "floor"),
    "remainder": build.mod,
    "fmod": build.fmod,
    "pow": _pow,
    "square": lambda x: build.mul(x, x),
    "neg": lambda x: build.sub(const(0), x) if x.dtype is DType.I64 else pointwise(Op.NEG, x),
    "abs": lambda x: pointwise(Op.ABS, x),
    "sign": lambda x: pointwise(Op.SIGN, x),
    "sgn": lambda x: pointwise(Op.SIGN, x),
    "reciprocal": lambda x: pointwise(Op.DIV, _like(1.0, x), x),
    "sqrt": lambda x: pointwise(Op.SQRT, x),
    "rsqrt": lambda x: pointwise(Op.RSQRT, x),
    "exp": lambda x: pointwise(Op.EXP, x),
    "exp2": lambda x: pointwise(Op.EXP, build.mul(x, _like(math.log(2), x))),
    "expm1": lambda x: pointwise(Op.EXPM1, x),
    "log10": lambda x: build.mul(pointwise(Op.LOG2, x), _like(math.log10(2), x)),
    "log": lambda x: pointwise(Op.LOG, x),
    "log2": lambda x: pointwise(Op.LOG2, x),
    "log1p": lambda x: pointwise(Op.LOG1P, x),
    "sin": lambda x: pointwise(Op.SIN, x),
    "cos": lambda x: pointwise(Op.COS, x),
    "tan": lambda x: pointwise(Op.DIV, pointwise(Op.SIN, x), pointwise(Op.COS, x)),
    "atan": lambda x: pointwise(Op.ATAN2, x, _like(1.0, x)),
    "asin": lambda x: pointwise(Op.ATAN2, x, _cathetus(x)),
    "acos": lambda x: pointwise(Op.ATAN2, _cathetus(x), x),
    "sinh": _sinh,
    "cosh": _cosh,
    "asinh": _asinh,
    "acosh": _acosh,
    "atanh": _atanh,
    "tanh": lambda x: pointwise(Op.TANH, x),
    "sigmoid": _sigmoid,
    "silu": lambda x: build.mul(x, _sigmoid(x)),
    "gelu": _gelu,
    "relu": lambda x: pointwise(Op.MAX, x, _like(0, x)),
    "leaky_relu": _leaky,
    "elu": _elu,
    "softplus": _softplus,
    "hardtanh": lambda x, low=None, high=None: _clamp(x, low or _like(-1.0, x), high or _like(1.0, x)),
    "erf": lambda x: pointwise(Op.ERF, x),
    "erfinv": lambda x: pointwise(Op.ERFINV, x),
    "floor": lambda x: pointwise(Op.FLOOR, x),
    "ceil": lambda x: pointwise(Op.CEIL, x),
    "trunc": lambda x: pointwise(Op.TRUNC, x),
    "round": lambda x: pointwise(Op.ROUND, x),
    "atan2": lambda x, y: pointwise(Op.ATAN2, x, y),
    "copysign": _copysign,
    "hypot": _hypot,
    "minimum": lambda x, y: pointwise(Op.MIN, x, y),
    "maximum": lambda x, y: pointwise(Op.MAX, x, y),
    "clamp": _clamp,
    "clamp_min": _clamp,
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
    "isnan": _isnan,
    "isinf": _isinf,
    "signbit": _is_negative,
    "clone": lambda x: x,
    "alias": lambda x: x,
    "detach": lambda x: x,
    "lift_fresh_copy": lambda x: x,
    "contiguous": lambda x: x,
}
COMPARE = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "signbit"})
LOGICAL = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not"})  # operands become bool first
