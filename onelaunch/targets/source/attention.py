"""What compiled targets know of attention besides its code: which queries can share keys, and its plain form."""

from __future__ import annotations

import math

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute
from onelaunch.graph.nest import Attention
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.tiles import Axis
from onelaunch.targets.source.writer import Writer

DOT = Expr.make(Op.VAR, (build.const(1),), "dot", DType.F32)  # the scalar product, inside the score


def sharing(
    queries: list[Axis], tiles: list[tuple[tuple[int, int], ...]], shared: list[Expr], limit: int
) -> tuple[Axis | None, int]:
    """The axis along which up to ``limit`` neighbouring queries need the same of ``shared`` (keys, values, positions),
    and how many do.
    """
    for i, axis in reversed(list(enumerate(queries))):
        periods = [p for e in shared if (p := _periods(e, axis.variable)) is not None]
        if len(periods) < len(shared) or not axis.variable.args[0].is_const:
            continue
        numbers = [n for p in periods for n in p]
        spans = [t[i] for t in tiles]
        numbers += [high - low for low, high in spans] + ([low for low, _ in spans] if numbers else [])
        common = math.gcd(*numbers) if numbers else 1
        size = max((s for s in range(1, limit + 1) if common % s == 0), default=1)
        if size > 1:
            return axis, size
    return (queries[-1], 1) if queries else (None, 1)


def _periods(e: Expr, variable: Expr) -> list[int] | None:
    """The numbers g for which ``e`` depends on ``variable`` only through ``variable // g``; None: otherwise too."""
    found: list[int] = []
    seen: set[Expr] = set()

    def visit(node: Expr) -> bool:
        if variable not in node.free or node in seen:
            return True
        seen.add(node)
        if node.op is Op.FLOORDIV and node.args[0] is variable and node.args[1].is_const:
            found.append(int(node.args[1].value))
            return True
        return node is not variable and all(visit(arg) for arg in node.args)

    return found if visit(e) else None


def open_group(writer: Writer, block: Block, axis: Axis, size: int) -> Block:
    """The loop over groups of ``size`` queries; the axis' own variable stands for the first of each."""
    low, high = (bare(writer.value(e, block)) for e in (axis.low, axis.high))
    name = writer.variable_name(axis.variable)
    step = f"{name} += {size}" if size > 1 else f"++{name}"
    inner = Block(block, f"for (int64_t {name} = {low}; {name} < {high}; {step})", axis.variable)
    inner.names[axis.variable] = name
    return inner


def values_of(a: Attention) -> Expr:
    """What ``v`` is for the elements of a value: in a split attention, it is guarded against the two behind them."""
    return a.v.args[1] if a.part is not None and a.v.op is Op.WHERE else a.v


def plain(a: Attention) -> Expr:
    """Attention as ordinary reductions: right for every type and layout, and slow."""
    wide = DType.F64 if DType.F64 in (a.q.dtype, a.k.dtype, a.v.dtype) else DType.F32
    product = build.mul(build.cast(a.q, wide), build.cast(a.k, wide))
    dot = build.reduce("sum", a.head, product)
    score = build.cast(substitute(a.score, {build.acc(0): dot}), wide)
    low = build.const(-math.inf, wide)
    conditions = (
        None if a.start is None else build.le(a.start, a.key),
        None if a.stop is None else build.lt(a.key, a.stop),
        None if a.masked == "all" else a.scan,  # then the score says all
    )

    def counted(value: Expr, other: Expr) -> Expr:
        """``value`` where a position counts; elsewhere it is not evaluated."""
        for condition in conditions:
            value = value if condition is None else build.where(condition, value, other)
        return value

    score = counted(score, low)
    peak = build.reduce("max", a.key, score)
    empty = build.eq(peak, low)
    base = build.where(empty, build.const(0.0, wide), peak)
    weight = build.pointwise(Op.EXP, build.sub(score, base))
    total = build.reduce("sum", a.key, weight)
    weighted = counted(build.mul(weight, build.cast(a.v, wide)), build.const(0.0, wide))
    mean = build.pointwise(Op.DIV, build.reduce("sum", a.key, weighted), total)
    return build.where(empty, build.const(0.0 if a.masked == "zero" else math.nan, wide), mean)
