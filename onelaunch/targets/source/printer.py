"""Operations as C++ text: from a node and its operands' texts to the text of its value.

Texts are complete operands: an atom, a call, or something in parentheses. Functions named here live in the headers
(``scalar.h`` and ``math.h``); all of them have overloads for float, double and, where it means something, int64_t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onelaunch.graph import build
from onelaunch.graph.build import promote
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import COMPARISONS
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.targets.source.dialect import Dialect

_SIGNS = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "*", Op.DIV: "/", Op.LT: "<", Op.LE: "<=", Op.EQ: "==", Op.NE: "!="}
_BITS = {Op.AND: "&", Op.OR: "|", Op.XOR: "^"}
_CALLS = {
    Op.MIN: "minimum", Op.MAX: "maximum", Op.FLOORDIV: "floor_div", Op.MOD: "floor_mod", Op.ISNAN: "is_nan",
    **{op: str(op) for op in (
        Op.POW, Op.FMOD, Op.TRUNC, Op.FLOOR, Op.CEIL, Op.ROUND, Op.SIGN, Op.ABS, Op.SQRT, Op.RSQRT, Op.EXP, Op.EXPM1,
        Op.LOG, Op.LOG1P, Op.LOG2, Op.SIN, Op.COS, Op.TANH, Op.SIGMOID, Op.ERF, Op.ERFINV, Op.ATAN2,
    )},
}  # fmt: skip


def literal(e: Expr) -> str:
    """A constant, exact, in its compute type."""
    if e.dtype is DType.BOOL:
        return "true" if e.value else "false"
    if not e.dtype.is_float:
        value = int(e.value)
        if value == -(2**63):
            return "INT64_MIN"
        return f"INT64_C({value})" if abs(value) >= 2**31 else str(value) if value >= 0 else f"({value})"
    suffix = "" if e.dtype is DType.F64 else "f"
    number = float(e.value)
    if math.isnan(number):
        return f"float_limits<{'double' if not suffix else 'float'}>::quiet_NaN()"
    if math.isinf(number):
        sign = "-" if number < 0 else ""
        return f"({sign}float_limits<{'double' if not suffix else 'float'}>::infinity())"
    text = _shortest(number, single=bool(suffix))
    return f"{text}{suffix}" if math.copysign(1.0, number) > 0 else f"({text}{suffix})"


def _shortest(number: float, single: bool) -> str:
    """The shortest decimal that reads back as the same number (of single precision, if asked)."""
    from onelaunch.graph.fold import to_float32

    if not single:
        text = repr(number)
    else:
        number = to_float32(number)
        text = next(t for digits in range(1, 18) if to_float32(float(t := f"{number:.{digits}g}")) == number)
    return text if any(c in text for c in ".e") else f"{text}.0"


def bare(text: str) -> str:
    """``text`` without parentheses around all of it."""
    if not text.startswith("(") or not text.endswith(")"):
        return text
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and i < len(text) - 1:
            return text
    return text[1:-1]


def convert(text: str, source: DType, to: DType, dialect: Dialect) -> str:
    """``text`` of the compute type of ``source`` in the compute type of ``to``, without rounding to storage."""
    if dialect.compute(source) == dialect.compute(to):
        return text
    if to is DType.BOOL:
        return f"({text} != 0)"
    return f"{dialect.compute(to)}({bare(text)})"


def cast(text: str, source: DType, to: DType, dialect: Dialect) -> str:
    """A CAST: converts and rounds to what ``to`` can hold."""
    value = convert(text, source, to, dialect)
    if to in (DType.BF16, DType.F16):
        return f"to_float(from_float<{dialect.storage[to]}>({bare(value)}))"
    if to.is_int and to is not DType.I64 and source is not DType.BOOL:
        return f"int64_t({dialect.storage[to]}({bare(value)}))"
    return value


def operation(e: Expr, operands: Sequence[str], dialect: Dialect) -> str:
    """The value of a node that is neither a leaf, LOAD, WHERE nor REDUCE."""
    if e.op is Op.CAST:
        return cast(operands[0], e.args[0].dtype, e.dtype, dialect)
    work = promote(*(a.dtype for a in e.args)) if e.op in COMPARISONS else e.dtype
    texts = [convert(t, a.dtype, work, dialect) for t, a in zip(operands, e.args, strict=True)]
    if e.op is Op.ADD and e.args[1].is_const and work.is_int and int(e.args[1].value) < 0:
        return f"({texts[0]} - {literal(build.const(-int(e.args[1].value), work))})"
    if e.op is Op.MUL and e.args[1].is_const and work.is_int and e.args[1].value == -1:
        return f"(-{texts[0]})"
    if e.op in _SIGNS:
        if work is DType.BOOL and e.op in (Op.ADD, Op.SUB, Op.MUL):
            return f"({texts[0]} {'&' if e.op is Op.MUL else '|'} {texts[1]})"
        return f"({texts[0]} {_SIGNS[e.op]} {texts[1]})"
    if e.op in _BITS:
        sign = "!=" if work is DType.BOOL and e.op is Op.XOR else _BITS[e.op]
        text = f"({texts[0]} {sign} {texts[1]})"
        return f"bool{text}" if work is DType.BOOL else text
    if e.op is Op.NEG:
        return f"(-{texts[0]})"
    if e.op is Op.NOT:
        return f"(!{texts[0]})" if work is DType.BOOL else f"(~{texts[0]})"
    if work.is_int and e.op in (Op.TRUNC, Op.FLOOR, Op.CEIL, Op.ROUND):
        return texts[0]
    if work is DType.BOOL and e.op in (Op.MIN, Op.MAX):
        return f"bool({texts[0]} {'&' if e.op is Op.MIN else '|'} {texts[1]})"
    if e.op is Op.POW and e.args[1].is_const and e.args[1].value == 2 and work.is_float:
        return f"({texts[0]} * {texts[0]})"
    return f"{_CALLS[e.op]}({', '.join(map(bare, texts))})"
