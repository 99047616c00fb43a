"""Writing loops: over a tile, and over what a reduction runs through; split where their bodies simplify."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.index import Range
from onelaunch.graph.index import bounds
from onelaunch.program.program import maximum
from onelaunch.targets.source import printer
from onelaunch.targets.source import split
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.writer import Writer

ALONE = "one thread"  # Block.shared: each step belongs to one thread
SPLITS = 6  # of one loop, one inside the other; what is left stays a condition in the loop

Body = Callable[[Block, Sequence[Expr]], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Members:
    """The threads, or warps, that steps are dealt out to in turn: C++ texts of a member's number and of their count,
    and how many there are.
    """

    number: str
    count: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Loop:
    """``for low <= variable < high`` around statements that compute ``roots``; ``dealt``: whom its steps go to."""

    variable: Expr
    low: Expr
    high: Expr
    within: Range  # what is known of the variable's value
    pragma: str = ""  # written where the loop turns out to be straight
    dealt: Members | None = None

    @property
    def is_empty(self) -> bool:
        """True where it is known to have no step."""
        return self.low.is_const and self.high.is_const and self.low.value >= self.high.value


def smaller(a: Expr, b: Expr) -> Expr:
    """The minimum, decided at once where ranges decide it."""
    ra, rb = bounds(a), bounds(b)
    if a is b or (ra is not None and rb is not None and ra[1] <= rb[0]):
        return a
    return b if ra is not None and rb is not None and rb[1] <= ra[0] else build.pointwise(Op.MIN, a, b)


def larger(a: Expr, b: Expr) -> Expr:
    """The maximum, decided at once where ranges decide it."""
    ra, rb = bounds(a), bounds(b)
    if a is b or (ra is not None and rb is not None and ra[0] >= rb[1]):
        return a
    return b if ra is not None and rb is not None and rb[0] >= ra[1] else build.pointwise(Op.MAX, a, b)


def write_loop(
    writer: Writer, block: Block, loop: Loop, roots: Sequence[Expr], body: Body, splits: int = SPLITS
) -> None:
    """Writes ``loop`` into ``block``; ``body`` writes one step from the roots as they look on a part of the range."""
    if loop.is_empty:
        return None
    roots = split.narrow(roots, loop.variable, loop.within)
    if splits > 0:
        found = split.boundary(roots, loop.variable, writer.memory.unsafe)
        if found is not None and found.point.is_const:
            return _write_parts(writer, block, loop, roots, body, found, splits)
        if loop.dealt is None and (size := split.period(roots, loop.variable)) is not None:
            return _write_periods(writer, block, loop, roots, body, size, splits)
        if (condition := split.invariant(roots, loop.variable, writer.memory.unsafe)) is not None:
            return _write_unswitched(writer, block, loop, roots, body, condition, splits)
        if found is not None:
            return _write_parts(writer, block, loop, roots, body, found, splits)
    writer.count((*roots, loop.low, loop.high))
    low, high = writer.value(loop.low, block), writer.value(loop.high, block)
    name = writer.variable_name(loop.variable)
    if loop.dealt is not None:
        return _write_dealt(writer, block, loop, loop.dealt, roots, body, (low, high, name))
    inner = Block(block, f"for (int64_t {name} = {bare(low)}; {name} < {bare(high)}; ++{name})", loop.variable)
    inner.names[loop.variable] = name
    body(inner, roots)
    if inner.is_straight() and writer.dialect.simd:
        inner.pragma = loop.pragma
    block.items.append(inner)
    return None


def _write_dealt(
    writer: Writer, block: Block, loop: Loop, members: Members, roots: Sequence[Expr], body: Body,
    texts: tuple[str, str, str],
) -> None:  # fmt: skip
    """A loop whose steps go to the members in turn. Where it is known how many turns there are, the C++ compiler is
    told: it then needs no loop for what is left after it has unrolled the other.
    """
    low, high, name = texts
    if not (loop.low.is_const and loop.high.is_const and loop.low.value == 0):
        start = f"{low} + {members.number}"
        outer = Block(
            block, f"for (int64_t {name} = {start}; {name} < {bare(high)}; {name} += {members.count})", loop.variable
        )
        inner = outer
    else:
        turn, steps = writer.fresh("turn"), int(loop.high.value)
        outer = Block(
            block, f"for (uint32_t {turn} = 0; {turn} < {-(-steps // members.size)}; ++{turn})", loop.variable
        )
        outer.items.append(f"const int64_t {name} = {turn} * {members.count} + {members.number};")
        inner = Block(outer, f"if ({name} < {steps})") if steps % members.size else outer
    outer.shared = ALONE
    outer.names[loop.variable] = name
    body(inner, roots)
    if inner is not outer:
        outer.items.append(inner)
    block.items.append(outer)


def _write_periods(
    writer: Writer, block: Block, loop: Loop, roots: Sequence[Expr], body: Body, size: int, splits: int
) -> None:
    """Before: ``for k``; after: ``for k / size, for k % size``."""
    name = loop.variable.attr
    last = maximum(loop.high) - 1 if bounds(loop.high) is not None else loop.within[1]
    outer = build.var(f"{name}_o", min(last, loop.within[1]) // size + 1)
    inner = build.var(f"{name}_i", size)
    start = build.mul(outer, build.const(size))
    low = larger(build.sub(loop.low, start), build.const(0))
    high = smaller(build.sub(loop.high, start), build.const(size))
    known = {loop.variable: build.add(start, inner)}
    roots = [split.replace(r, frozenset(known), known.get) for r in roots]
    first, end = build.floordiv(loop.low, size), build.floordiv(build.add(loop.high, build.const(size - 1)), size)

    def periods(home: Block, parts: Sequence[Expr]) -> None:
        steps = Loop(inner, parts[0], parts[1], (0, size - 1), loop.pragma)
        write_loop(writer, home, steps, parts[2:], body, splits - 1)

    around = Loop(outer, first, end, (loop.within[0] // size, loop.within[1] // size))
    write_loop(writer, block, around, (low, high, *roots), periods, 0)


def _write_unswitched(
    writer: Writer, block: Block, loop: Loop, roots: Sequence[Expr], body: Body, condition: Expr, splits: int
) -> None:
    """Before: ``for { c ? a : b }``; after: ``if (c) for { a } else for { b }``."""
    writer.count((condition,))
    text = writer.value(condition, block)
    branches = []
    for header, value in ((f"if ({bare(text)})", True), ("else", False)):
        side = Block(block, header)
        write_loop(writer, side, loop, split.decide(roots, condition, value), body, splits - 1)
        branches.append(side)
    block.items.extend(branches)


def _write_parts(
    writer: Writer, block: Block, loop: Loop, roots: Sequence[Expr], body: Body, found: split.Boundary, splits: int
) -> None:
    """One loop below the point, one from it on."""
    point, (least, most) = found.point, loop.within
    below, above = (least, most), (least, most)
    if point.is_const:
        at = int(point.value)
        if found.condition.op in (Op.EQ, Op.NE) and at <= least:
            at += 1
        point = build.const(at)
        below, above = (least, at - 1), (at, most)
        kept = replaced = list(roots)
    else:
        kept = list(split.decide(roots, found.condition, found.below))
        replaced = list(split.decide(roots, found.condition, not found.below))
    middle = smaller(larger(point, loop.low), loop.high)
    if not middle.is_const:
        writer.count((middle, loop.low, loop.high))
        block.names[middle] = writer.named(middle, block)
    parts = (
        (dataclasses.replace(loop, high=middle, within=below), kept),
        (dataclasses.replace(loop, low=middle, within=above), replaced),
    )
    for part, computed in parts:
        if not part.is_empty:
            _write_guarded(writer, block, part, computed, body, splits - 1)


def _write_guarded(writer: Writer, block: Block, loop: Loop, roots: Sequence[Expr], body: Body, splits: int) -> None:
    """A part of a loop that may be empty: nothing unsafe may be hoisted out of it."""
    always = loop.low.is_const and loop.high.is_const
    if always or not any(writer.memory.unsafe(r) for r in roots):
        return write_loop(writer, block, loop, roots, body, splits)
    writer.count((loop.low, loop.high))
    low, high = writer.value(loop.low, block), writer.value(loop.high, block)
    inner = Block(block, f"if ({bare(low)} < {bare(high)})")
    write_loop(writer, inner, loop, roots, body, splits)
    block.items.append(inner)
    return None


def write_reduction(writer: Writer, e: Expr, block: Block) -> str:
    """The loop of a REDUCE; returns the accumulator's name."""
    variable, summand = e.args
    kind, wide = e.attr, e.dtype.compute
    neutral = {"sum": 0, "prod": 1}.get(kind)
    type_text = writer.dialect.compute(e.dtype)
    if neutral is None:
        start = f"{'lowest' if kind == 'max' else 'highest'}<{type_text}>()"
    else:
        start = printer.literal(build.const(neutral, wide))
    name = writer.fresh("s")
    block.items.append(f"{type_text} {name} = {start};")
    signs = {"sum": "|" if wide is DType.BOOL else "+", "prod": "&" if wide is DType.BOOL else "*"}
    signs |= {"max": "maximum", "min": "minimum"} if wide is not DType.BOOL else {"max": "|", "min": "&"}
    extent = writer.memory.lower(variable.args[0])
    pragma = writer.dialect.reduction.format(sign=signs[kind], names=name)
    within = (0, max(maximum(extent) - 1, 0))
    dealt = writer.dealt(block)
    uses = writer.uses

    def step(inner: Block, roots: Sequence[Expr]) -> None:
        text = writer.value(roots[0], inner)
        sign = signs[kind]
        if sign in ("maximum", "minimum"):
            inner.items.append(f"{name} = {sign}({name}, {bare(text)});")
        else:
            inner.items.append(f"{name} {sign}= {bare(text)};")

    write_loop(writer, block, Loop(variable, build.const(0), extent, within, pragma, dealt), (summand,), step)
    if dealt is not None:
        block.items.append(writer.combined(name, e, block))
    writer.uses = uses
    return name
