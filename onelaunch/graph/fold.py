"""Constant folding: what an operation gives on literals, where the result is the same on every target."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Number
from onelaunch.graph.expr import Op

# Only operations that IEEE 754 rounds correctly, so that folding here changes no bit of a result computed there.
_EXACT: dict[Op, Callable[..., Any]] = {
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV: lambda a, b: a / b if b else None,
    Op.FLOORDIV: lambda a, b: a // b if b else None,
    Op.MOD: lambda a, b: a % b if b else None,
    Op.MIN: min,
    Op.MAX: max,
    Op.NEG: lambda a: -a,
    Op.ABS: abs,
    Op.LT: lambda a, b: a < b,
    Op.LE: lambda a, b: a <= b,
    Op.EQ: lambda a, b: a == b,
    Op.NE: lambda a, b: a != b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.CAST: lambda a: a,
}


def fold_constants(op: Op, values: Sequence[Number], dtype: DType) -> Number | None:
    """The value of ``op`` on literals, converted to ``dtype``, or None where it is left to run time."""
    rule = _EXACT.get(op)
    if op is Op.NOT and dtype is DType.BOOL:
        return not values[0]
    if rule is None or any(isinstance(v, float) and not math.isfinite(v) for v in values):
        return None
    result = rule(*values)
    if result is None:
        return None
    if dtype is DType.BOOL:
        return bool(result)
    if dtype.is_float:
        return to_float32(result) if dtype.compute is DType.F32 else float(result)
    if isinstance(result, float) and not math.isfinite(result):
        return None
    return wrapped(int(result), dtype)


def wrapped(value: int, dtype: DType) -> int:
    """``value`` as stored in an integer type, modulo a power of two."""
    bits = 8 * dtype.itemsize
    value %= 1 << bits
    return value - (1 << bits) if dtype is not DType.U8 and value >> (bits - 1) else value


def to_float32(value: Number) -> float:
    """The nearest fp32 value, as a Python float."""
    try:
        return float(struct.unpack("f", struct.pack("f", float(value)))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
