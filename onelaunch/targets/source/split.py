"""Splitting loops: where a loop's body simplifies on parts of the loop variable's range.

``k // 64`` becomes two loops; ``where(i < 32, a, b)`` becomes one loop up to 32 and one from there; a condition that
the loop does not change is decided before it. All functions are pure: they look at expressions; the loops are written
by ``onelaunch.targets.source.loops``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.index import Range
from onelaunch.graph.index import bounds
from onelaunch.graph.index import terms

SMALLEST_PERIOD = 8  # a shorter inner loop costs more than the division it saves


def replace(root: Expr, variables: frozenset[Expr], rule: Callable[[Expr], Expr | None]) -> Expr:
    """``root`` rebuilt with ``rule`` where it depends on ``variables``; reductions that bind one are left alone."""
    memo: dict[Expr, Expr] = {}

    def visit(e: Expr) -> Expr:
        if not e.free & variables or (e.op is Op.REDUCE and e.args[0] in variables):
            return e
        if e in memo:
            return memo[e]
        args = e.args if e.op is Op.VAR else tuple(visit(a) for a in e.args)
        new = e if args == e.args else build.rebuild(e, args)
        replaced = rule(new)
        memo[e] = new if replaced is None else replaced
        return memo[e]

    return visit(root)


def narrow(roots: Sequence[Expr], variable: Expr, within: Range) -> tuple[Expr, ...]:
    """``roots`` simplified for ``within[0] <= variable <= within[1]``."""
    env = {variable: within}

    def rule(e: Expr) -> Expr | None:
        if e is variable and within[0] == within[1]:
            return build.const(within[0])
        if e.op in (Op.LT, Op.LE, Op.EQ, Op.NE) and all(a.dtype.is_int for a in e.args):
            return _decide(e, bounds(e.args[0], env), bounds(e.args[1], env))
        if e.op in (Op.FLOORDIV, Op.MOD) and e.dtype.is_int and e.args[1].is_const and int(e.args[1].value) > 0:
            found, d = bounds(e.args[0], env), int(e.args[1].value)
            if found is not None and found[0] // d == found[1] // d:
                quotient = build.const(found[0] // d)
                return quotient if e.op is Op.FLOORDIV else build.sub(e.args[0], build.mul(quotient, e.args[1]))
        return None

    return tuple(replace(r, frozenset((variable,)), rule) for r in roots)


def _decide(e: Expr, a: Range | None, b: Range | None) -> Expr | None:
    if a is None or b is None:
        return None
    result: bool | None = None
    if e.op in (Op.EQ, Op.NE):
        if a[1] < b[0] or b[1] < a[0]:
            result = e.op is Op.NE
        elif a == b and a[0] == a[1]:
            result = e.op is Op.EQ
    elif a[1] < b[0] or (e.op is Op.LE and a[1] == b[0]):
        result = True
    elif a[0] > b[1] or (e.op is Op.LT and a[0] == b[1]):
        result = False
    return None if result is None else build.const(result, e.dtype)


def period(roots: Sequence[Expr], variable: Expr) -> int | None:
    """The largest d for which ``variable // d`` or ``variable % d`` occurs."""
    found = [
        int(e.args[1].value)
        for e in _dependent(roots, variable)
        if e.op in (Op.FLOORDIV, Op.MOD) and e.args[0] is variable and e.args[1].is_const
    ]
    return max((d for d in found if d >= SMALLEST_PERIOD), default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Boundary:
    """``condition`` holds exactly below ``point`` (or from there on, if not ``below``)."""

    condition: Expr
    point: Expr
    below: bool


def boundary(roots: Sequence[Expr], variable: Expr, unsafe: Callable[[Expr], bool]) -> Boundary | None:
    """The first comparison that splits the range of ``variable``; constants are preferred to run-time values."""
    dynamic = None
    nodes = _dependent(roots, variable)
    for e in nodes:
        if e.op not in (Op.LT, Op.LE, Op.EQ, Op.NE) or not all(a.dtype.is_int for a in e.args):
            continue
        found = _solve(e, variable)
        if found is None or unsafe(found.point) or any(n.op is Op.REDUCE for n in walk(found.point)):
            continue
        if _binds(nodes, e.free):
            continue
        if found.point.is_const:
            return found
        if dynamic is None and e.op in (Op.LT, Op.LE):
            dynamic = found
    return dynamic


def _solve(e: Expr, variable: Expr) -> Boundary | None:
    """Solves a < b (a <= b, a == b) for ``variable`` where it occurs linearly and nowhere else."""
    difference = build.sub(e.args[1], e.args[0])
    if e.op is Op.LE:
        difference = build.add(difference, build.const(1))
    parts, constant = terms(difference)
    factor = parts.pop(variable, 0)
    if factor == 0 or any(variable in t.free for t in parts):
        return None
    rest = build.const(constant)
    for term, k in parts.items():
        rest = build.add(rest, build.mul(term, build.const(k)))
    if e.op in (Op.EQ, Op.NE):  # split before the point, and then (as it is still undecided) behind it
        if not rest.is_const or abs(factor) != 1:
            return None
        return Boundary(e, build.const(-int(rest.value) * factor), False)
    if factor > 0:  # factor * v + rest >= 1
        return Boundary(e, build.floordiv(build.sub(build.const(factor), rest), factor), False)
    return Boundary(e, build.add(build.floordiv(build.sub(rest, build.const(1)), -factor), build.const(1)), True)


def invariant(roots: Sequence[Expr], variable: Expr, unsafe: Callable[[Expr], bool]) -> Expr | None:
    """A condition that ``variable`` does not change, around sides that must not be evaluated unless it holds."""
    nodes = _dependent(roots, variable)
    for e in nodes:
        if e.op is Op.WHERE and variable not in e.args[0].free and any(unsafe(a) for a in e.args[1:]):
            condition = e.args[0]
            if not unsafe(condition) and not _binds(nodes, condition.free):
                return condition
    return None


def _binds(nodes: Sequence[Expr], variables: frozenset[Expr]) -> bool:
    return any(e.op is Op.REDUCE and e.args[0] in variables for e in nodes)


def decide(roots: Sequence[Expr], condition: Expr, value: bool) -> tuple[Expr, ...]:
    """``roots`` where ``condition`` is known to be ``value``."""
    known = build.const(value, condition.dtype)
    if not condition.free:
        from onelaunch.graph.expr import substitute

        return tuple(substitute(r, {condition: known}) for r in roots)
    return tuple(replace(r, condition.free, lambda e: known if e is condition else None) for r in roots)


def _dependent(roots: Sequence[Expr], variable: Expr) -> list[Expr]:
    """The nodes below ``roots`` that depend on ``variable``, operands first; below reductions too."""
    seen: dict[Expr, None] = {}

    def visit(e: Expr) -> None:
        if e in seen or variable not in e.free:
            return
        for a in e.args:
            visit(a)
        seen[e] = None

    for r in roots:
        visit(r)
    return list(seen)
