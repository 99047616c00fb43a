"""Sizes at run time: integer expressions over a program's symbols, evaluated for the values of one call."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.index import terms

_RULES: dict[Op, Callable[[int, int], int]] = {
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.FLOORDIV: lambda a, b: a // b,
    Op.MOD: lambda a, b: a % b,
    Op.MIN: min,
    Op.MAX: max,
}


def evaluate(e: Expr, symbols: Mapping[str, int]) -> int:
    """The value of a size; ``symbols`` by name. Raises ValueError for what is no size (a load, a variable)."""
    if e.op is Op.CONST:
        return int(e.value)
    if e.op is Op.SYM:
        return symbols[e.attr[0]]
    if e.op is Op.NEG:
        return -evaluate(e.args[0], symbols)
    if e.op not in _RULES:
        raise ValueError(f"{e} is not a size")
    return _RULES[e.op](evaluate(e.args[0], symbols), evaluate(e.args[1], symbols))


def evaluate_all(exprs: Sequence[Expr], symbols: Mapping[str, int]) -> tuple[int, ...]:
    """The values of several sizes."""
    return tuple(evaluate(e, symbols) for e in exprs)


def solve(e: Expr) -> tuple[str, int, int] | None:
    """``(symbol, factor, constant)`` where ``e`` is factor * symbol + constant; None where it is not."""
    parts, constant = terms(e)
    if len(parts) != 1:
        return None
    ((symbol, factor),) = parts.items()
    return (symbol.attr[0], factor, constant) if symbol.op is Op.SYM else None
