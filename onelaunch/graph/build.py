"""Smart constructors of expressions: every one returns the simplest equal expression it knows.

Simplification is exact: integer rules hold for the whole range of the variables involved, float rules change no bit
(``x * 1.0`` is ``x``; ``x + 0.0`` is not folded, because of ``-0.0``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onelaunch.graph import index
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import COMPARISONS
from onelaunch.graph.expr import REDUCTIONS
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Number
from onelaunch.graph.expr import Op
from onelaunch.graph.fold import fold_constants

_ORDER = [DType.BOOL, DType.U8, DType.I8, DType.I16, DType.I32, DType.I64, DType.BF16, DType.F16, DType.F32, DType.F64]
_RANK = {d: i for i, d in enumerate(_ORDER)}


def const(value: Number, dtype: DType = DType.I64) -> Expr:
    """A literal; the value is converted to what ``dtype`` computes in."""
    if dtype is DType.BOOL:
        return Expr.make(Op.CONST, (), bool(value), dtype)
    return Expr.make(Op.CONST, (), float(value) if dtype.is_float else int(value), dtype)


def sym(name: str, low: int, high: int) -> Expr:
    """An integer read at run time, between ``low`` and ``high`` (both included)."""
    return Expr.make(Op.SYM, (), (name, low, high), DType.I64)


def var(name: str, extent: Expr | int) -> Expr:
    """An index variable running from 0 to ``extent`` - 1."""
    return Expr.make(Op.VAR, (as_index(extent),), name, DType.I64)


def acc(number: int = 0) -> Expr:
    """The finished fp32 sum of contraction ``number``."""
    return Expr.make(Op.ACC, (), number, DType.F32)


def load(name: str, indices: Sequence[Expr | int], dtype: DType) -> Expr:
    """An element of a value or buffer, one index a dimension."""
    return Expr.make(Op.LOAD, tuple(as_index(i) for i in indices), name, dtype)


def reduce(kind: str, variable: Expr, body: Expr) -> Expr:
    """``kind`` (sum, max, min, prod) of ``body`` over all values of ``variable``."""
    assert kind in REDUCTIONS, f"unknown reduction {kind}"
    extent = variable.args[0]
    if extent.is_const and extent.value == 1:
        from onelaunch.graph.expr import substitute

        return substitute(body, {variable: const(0)})
    return Expr.make(Op.REDUCE, (variable, body), kind, body.dtype)


def as_index(value: Expr | int) -> Expr:
    """An index as an expression."""
    return value if isinstance(value, Expr) else const(value)


def promote(*dtypes: DType) -> DType:
    """The type of a pointwise result: the widest; bf16 with f16 gives f32, as in torch."""
    widest = max(dtypes, key=_RANK.__getitem__)
    if widest is DType.F16 and DType.BF16 in dtypes:
        return DType.F32
    return widest


def cast(value: Expr, dtype: DType) -> Expr:
    """Convert; a cast to a narrower float rounds, one to a wider or the same type vanishes where it is exact."""
    if value.dtype is dtype:
        return value
    if value.op is Op.CAST and value.args[0].dtype is dtype and value.dtype is DType.I64 and not dtype.is_float:
        return value.args[0]
    if value.is_const and dtype not in (DType.BF16, DType.F16):
        folded = fold_constants(Op.CAST, [value.value], dtype)
        if folded is not None:
            return const(folded, dtype)
    return Expr.make(Op.CAST, (value,), None, dtype)


def add(a: Expr, b: Expr) -> Expr:
    """``a + b``; integers as canonical sums."""
    dtype = promote(a.dtype, b.dtype)
    if dtype is DType.I64:
        return index.add(a, b)
    return _pointwise(Op.ADD, (a, b), dtype)


def sub(a: Expr, b: Expr) -> Expr:
    """``a - b``; integers as canonical sums."""
    dtype = promote(a.dtype, b.dtype)
    if dtype is DType.I64:
        return index.add(a, index.mul(const(-1), b))
    return _pointwise(Op.SUB, (a, b), dtype)


def mul(a: Expr, b: Expr) -> Expr:
    """``a * b``; a float times 1 vanishes."""
    dtype = promote(a.dtype, b.dtype)
    if dtype is DType.I64:
        return index.mul(a, b)
    for one, other in ((a, b), (b, a)):
        if one.is_const and one.value == 1 and one.value is not True and other.dtype is dtype:
            return other
    return _pointwise(Op.MUL, (a, b), dtype)


def floordiv(a: Expr, b: Expr | int) -> Expr:
    """``a // b``, rounding towards minus infinity."""
    b = as_index(b) if isinstance(b, int) else b
    dtype = promote(a.dtype, b.dtype)
    return index.floordiv(a, b) if dtype is DType.I64 else _pointwise(Op.FLOORDIV, (a, b), dtype)


def mod(a: Expr, b: Expr | int) -> Expr:
    """``a % b`` with the sign of the divisor."""
    b = as_index(b) if isinstance(b, int) else b
    dtype = promote(a.dtype, b.dtype)
    return index.mod(a, b) if dtype is DType.I64 else _pointwise(Op.MOD, (a, b), dtype)


def fmod(a: Expr, b: Expr) -> Expr:
    """The remainder with the sign of ``a``: that of ``mod`` where no operand is negative."""
    ranges = [index.bounds(e) if e.dtype.is_int else None for e in (a, b)]
    if ranges[0] is not None and ranges[1] is not None and ranges[0][0] >= 0 and ranges[1][0] > 0:
        return mod(a, b)
    return _pointwise(Op.FMOD, (a, b), promote(a.dtype, b.dtype))


def where(condition: Expr, then: Expr, other: Expr) -> Expr:
    """``then`` where ``condition`` holds, else ``other``; both sides are promoted to one type."""
    dtype = promote(then.dtype, other.dtype)
    if condition.is_const:
        return cast(then if condition.value else other, dtype)
    if then is other:
        return then
    return Expr.make(Op.WHERE, (condition, cast(then, dtype), cast(other, dtype)), None, dtype)


def lt(a: Expr, b: Expr) -> Expr:
    """``a < b``, decided at once where the ranges decide it."""
    return _compare(Op.LT, a, b)


def le(a: Expr, b: Expr) -> Expr:
    """``a <= b``, decided at once where the ranges decide it."""
    return _compare(Op.LE, a, b)


def eq(a: Expr, b: Expr) -> Expr:
    """``a == b``."""
    return _pointwise(Op.EQ, (a, b), DType.BOOL)


def logical_and(a: Expr, b: Expr) -> Expr:
    """``a and b`` of bools, bitwise of integers."""
    for one, other in ((a, b), (b, a)):
        if one.is_const and one.dtype is DType.BOOL and other.dtype is DType.BOOL:
            return other if one.value else const(False, DType.BOOL)
    return a if a is b else _pointwise(Op.AND, (a, b), promote(a.dtype, b.dtype))


def pointwise(op: Op, *args: Expr, dtype: DType | None = None) -> Expr:
    """Any other operation of one to three operands; ``dtype`` defaults to the promotion of the operands'."""
    special = _SPECIAL.get(op)
    if special is not None and (dtype is None or dtype is promote(*(a.dtype for a in args)) or op in COMPARISONS):
        return special(*args)
    if op in COMPARISONS:
        dtype = DType.BOOL
    return _pointwise(op, args, dtype or promote(*(a.dtype for a in args)))


def rebuild(node: Expr, args: tuple[Expr, ...]) -> Expr:
    """``node`` with other operands, simplified again."""
    if node.op is Op.LOAD or node.op is Op.VAR:
        return Expr.make(node.op, args, node.attr, node.dtype)
    if node.op is Op.REDUCE:
        return reduce(node.attr, args[0], args[1])
    if node.op is Op.CAST:
        return cast(args[0], node.dtype)
    if node.op is Op.WHERE:
        return where(*args)
    dtype = node.dtype
    if dtype.is_float and node.op not in COMPARISONS:
        # Operands may have become wider (a stored bf16 kept as fp32): the result follows, nothing rounds.
        floats = [a.dtype for a in args if a.dtype.is_float]
        dtype = promote(*floats) if floats else dtype
    return pointwise(node.op, *args, dtype=dtype)


def _pointwise(op: Op, args: tuple[Expr, ...], dtype: DType) -> Expr:
    if all(a.is_const for a in args):
        folded = fold_constants(op, [a.value for a in args], dtype)
        if folded is not None and not (isinstance(folded, float) and math.isnan(folded)):
            return const(folded, dtype)
    return Expr.make(op, args, None, dtype)


def _compare(op: Op, a: Expr, b: Expr) -> Expr:
    if a.dtype.is_int and b.dtype.is_int:
        ra, rb = index.bounds(a), index.bounds(b)
        if ra is not None and rb is not None:
            strict = op is Op.LT
            if ra[1] < rb[0] or (not strict and ra[1] == rb[0]):
                return const(True, DType.BOOL)
            if ra[0] > rb[1] or (strict and ra[0] == rb[1]):
                return const(False, DType.BOOL)
    return _pointwise(op, (a, b), DType.BOOL)


_SPECIAL = {
    Op.ADD: add, Op.SUB: sub, Op.MUL: mul, Op.FLOORDIV: floordiv, Op.MOD: mod, Op.FMOD: fmod,
    Op.LT: lt, Op.LE: le, Op.EQ: eq, Op.AND: logical_and,
}  # fmt: skip
