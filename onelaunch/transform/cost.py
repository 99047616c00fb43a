"""The cost model: estimated time of a nest on a machine, in nanoseconds. It reads only the machine description.

A subexpression costs as often as the loops around its hoisted place run: generated code computes every subexpression at
the outermost loop where its variables are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Nest
from onelaunch.program.machine import Machine
from onelaunch.program.program import maximum

_TRANSCENDENTAL = frozenset(
    {Op.EXP, Op.EXPM1, Op.LOG, Op.LOG1P, Op.LOG2, Op.TANH, Op.SIGMOID, Op.ERF, Op.ERFINV, Op.POW, Op.ATAN2, Op.FMOD}
)
_CIRCULAR = frozenset({Op.SIN, Op.COS})  # reduction of large arguments: scalar library calls
_SLOW = frozenset({Op.DIV, Op.SQRT, Op.RSQRT, Op.FLOORDIV, Op.MOD})
_FREE = frozenset({Op.CONST, Op.SYM, Op.VAR, Op.ACC})

Count = Callable[[frozenset[Expr]], float]


def unit(e: Expr, machine: Machine) -> float:
    """ns of one evaluation of one node inside a vectorised loop."""
    if e.op in _FREE:
        return 0.0
    if e.op in _TRANSCENDENTAL:
        return machine.transcendental
    if e.op in _CIRCULAR:
        return 10 * machine.transcendental
    if e.op in _SLOW:
        return 8 / machine.flops
    return 1 / machine.flops


def evaluations(variables: Sequence[Expr]) -> Count:
    """How often an expression runs inside loops over ``variables`` (outermost first), given what it depends on."""
    running = [1.0]
    for v in variables:
        running.append(running[-1] * maximum(v.args[0]))
    place = {v: n + 1 for n, v in enumerate(variables)}
    return lambda free: running[max((place.get(v, 0) for v in free), default=0)]


def expression_cost(roots: Sequence[Expr], count: Count, machine: Machine) -> float:
    """ns to evaluate ``roots`` inside the loops that ``count`` describes."""
    total = 0.0
    seen: set[Expr] = set()
    stack = list(roots)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.op is Op.REDUCE:
            total += _reduction_cost(e, count, machine)
        else:
            total += unit(e, machine) * count(e.free)
            stack.extend(e.args)
    return total


def _reduction_cost(e: Expr, count: Count, machine: Machine) -> float:
    variable, body = e.args
    outer = count(e.free)
    inner = outer * maximum(variable.args[0])

    def within(free: frozenset[Expr]) -> float:
        return inner if variable in free else count(free)

    return inner / machine.flops + expression_cost([body], within, machine)


def matrix_bytes(nest: Nest) -> float:
    """Bytes of matrices that a Linear nest streams."""
    column = maximum(nest.vars[-1].args[0]) if nest.vars else 1
    return float(sum(column * maximum(c.var.args[0]) * c.w.dtype.itemsize for c in nest.contractions))


def parallel(nest: Nest, machine: Machine) -> int:
    """How many workers a nest can keep busy."""
    points = math.prod(maximum(v.args[0]) for v in nest.vars)
    if nest.contractions:
        points = maximum(nest.vars[-1].args[0]) // machine.linear_rows if nest.vars else 1
    return max(1, min(machine.workers, points))


def prologue_cost(nest: Nest, machine: Machine) -> float:
    """ns of what every task of a Linear nest computes again: the distinct inputs of its contractions. Those that are
    computed from more than the machine stages in one trip come slowly.
    """
    total = 0.0
    rows = math.prod(maximum(v.args[0]) for v in nest.vars[:-1])
    for c in {c.x: c for c in nest.contractions}.values():
        total += expression_cost([c.x], evaluations([*nest.vars[:-1], c.var]), machine)
        size = 4.0 * rows * maximum(c.var.args[0])
        if machine.staged and size > machine.staged and c.x.op is not Op.LOAD:
            total += size / machine.unstaged
    return total


def work(nest: Nest, machine: Machine) -> float:
    """ns of all the work of a nest that its tasks divide among themselves."""
    count = evaluations(nest.vars)
    total = expression_cost([nest.body, *nest.index], count, machine)
    if not nest.contractions and nest.attention is None:
        total = max(total, machine.element * math.prod(maximum(v.args[0]) for v in nest.vars))
    if nest.contractions:
        rows = math.prod(maximum(v.args[0]) for v in nest.vars[:-1])
        products = rows * matrix_bytes(nest) / 2 / machine.flops
        total += max(matrix_bytes(nest) / machine.bandwidth * machine.workers, products)
    if (a := nest.attention) is not None:
        queries = [v for v in nest.vars[:-1] if v is not a.part]
        total += expression_cost([a.q], evaluations([*queries, a.head]), machine)
        total += expression_cost([a.score], evaluations([*queries, a.key]), machine)
        total += expression_cost([a.k], evaluations([*queries, a.key, a.head]), machine)
        total += expression_cost([a.v], evaluations([*queries, a.key, nest.vars[-1]]), machine)
    return total


def time(nest: Nest, machine: Machine) -> float:
    """ns from the start of a nest's tasks to the end of the last one, on all workers."""
    return machine.task + prologue_cost(nest, machine) + work(nest, machine) / parallel(nest, machine)
