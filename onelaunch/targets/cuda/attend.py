"""Attend kernels: queries and scores from expressions, keys and values in place, the softmax by attend.cuh.

Neighbouring queries that need the same keys and values share a pass over them. Keys or values that attend.cuh cannot
read where they lie (computed ones, or without unit stride along the head) are evaluated into the block's own memory
first; where that would be too much, the whole takes the plain form, by the general rule for reductions.
"""

from __future__ import annotations

import dataclasses

from onelaunch.errors import CompilerError
from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.nest import Attention
from onelaunch.program.program import maximum
from onelaunch.targets.cuda.kernel import LATE
from onelaunch.targets.cuda.kernel import SYNC
from onelaunch.targets.cuda.kernel import KernelWriter
from onelaunch.targets.cuda.nests import Steps
from onelaunch.targets.cuda.nests import deal
from onelaunch.targets.cuda.nests import write_shared_store
from onelaunch.targets.cuda.writer import BLOCK
from onelaunch.targets.cuda.writer import MEMBERS
from onelaunch.targets.source.attention import DOT
from onelaunch.targets.source.attention import open_group
from onelaunch.targets.source.attention import plain
from onelaunch.targets.source.attention import sharing
from onelaunch.targets.source.attention import values_of
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CUDA
from onelaunch.targets.source.loops import ALONE
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.nests import close
from onelaunch.targets.source.nests import full
from onelaunch.targets.source.nests import lower_store
from onelaunch.targets.source.nests import open_loop
from onelaunch.targets.source.newest import split_newest
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.rows import Rows
from onelaunch.targets.source.rows import in_place
from onelaunch.targets.source.rows import row_in_place
from onelaunch.targets.source.rows import write_start
from onelaunch.targets.source.rows import write_starts
from onelaunch.targets.source.tiles import Axis

QUERIES_MOST = 8  # of a pass: attend_tensor.cuh
WIDEST = 1024  # elements of a head
COMPUTED_MOST = 16 << 20  # bytes of keys and values that a block evaluates into its own memory
WARPS = 8  # types.cuh


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Computed(Rows):
    """Keys or values that have to be evaluated into ``operand`` first: what they are (key, element, expression)."""

    what: tuple[Expr, Expr, Expr]


def write_attend(k: KernelWriter) -> None:
    """Writes the kernel's body."""
    assert k.nest.attention is not None, "an Attend kernel without attention"
    a, newest = _split(k, k.nest.attention)
    rows = _keys_and_values(k, a)
    if rows is None:
        if a.part is not None:
            raise CompilerError("attention over computed keys and values is too large to be evaluated part by part")
        k.writer.memory.results[build.acc(0)] = k.writer.memory.lower(plain(a))
        return k.write_epilogue(k.body, k.steps())
    memory = k.writer.memory
    apart = () if newest is None else (newest.at, newest.key.base, newest.value.base)
    shared = [memory.lower(e) for e in (a.k, a.v, a.start, a.stop, a.scan, a.part, *apart) if e is not None]
    axis, size = sharing(k.axes[:-1], k.tiles, shared, QUERIES_MOST)
    blocks = [k.body]
    for other in k.axes[:-1]:
        if other is not axis:
            blocks.append(open_loop(k.writer, blocks[-1], other.loop()))
    if axis is not None:
        blocks.append(open_group(k.writer, blocks[-1], axis, size))
    _write_group(k, a, newest, rows, blocks[-1], axis, size)
    for inner, outer in zip(reversed(blocks[1:]), reversed(blocks[:-1]), strict=True):
        outer.items.append(inner)
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class NewestRows:
    """Position ``at`` has these rows, whatever lies in the cache."""

    at: Expr
    key: Rows
    value: Rows


def _split(k: KernelWriter, a: Attention) -> tuple[Attention, NewestRows | None]:
    """The attention over what lies in the cache alone and the rows that do not, where attend.cuh can take these so."""
    cached, newest = split_newest(a)
    if newest is None or not _is_taken(k, cached) or None in _in_place(k, cached):
        return a, None
    last = k.axes[-1]
    key, value = (
        row_in_place(k.writer.memory, e, element, low)
        for e, element, low in ((newest.key, a.head, build.const(0)), (newest.value, last.variable, last.low))
    )
    return (a, None) if key is None or value is None else (cached, NewestRows(newest.at, key, value))


def _is_taken(k: KernelWriter, a: Attention) -> bool:
    """Whether attend.cuh takes heads of this type and size."""
    last, head = k.axes[-1], a.head.args[0]
    wide = a.q.dtype.compute is DType.F64 or a.v.dtype.compute is DType.F64
    return not wide and last.is_full and head.is_const and max(maximum(head), last.most) <= WIDEST


def _in_place(k: KernelWriter, a: Attention) -> tuple[Rows | None, Rows | None]:
    """Keys and values, each if it can be read where it lies."""
    memory, last = k.writer.memory, k.axes[-1]
    keys = in_place(memory, a.k, a.key, a.head, build.const(0))
    return keys, in_place(memory, values_of(a), a.key, last.variable, last.low)


def _keys_and_values(k: KernelWriter, a: Attention) -> tuple[Rows, Rows] | None:
    """Keys and values in memory; None: attend.cuh cannot take them."""
    if not _is_taken(k, a):
        return None
    last, positions = k.axes[-1], maximum(a.key.args[0])
    keys, values = _in_place(k, a)
    widths = (maximum(a.head.args[0]), last.most)
    if sum(4 * positions * n for n, r in zip(widths, (keys, values), strict=True) if r is None) > COMPUTED_MOST:
        return None
    if keys is None:
        keys = _computed(k, "@k", positions, widths[0], (a.key, a.head, a.k))
    if values is None:
        values = _computed(k, "@v", positions, widths[1], (a.key, last.variable, a.v))
    return keys, values


def _computed(k: KernelWriter, name: str, positions: int, width: int, what: tuple[Expr, Expr, Expr]) -> Computed:
    shape, strides = (build.const(positions), build.const(width)), (build.const(width), build.const(1))
    k.reserve(name, positions * width, shape, strides)
    return Computed(DType.F32, name, build.const(0), width, what=what)


def _write_group(
    k: KernelWriter, a: Attention, newest: NewestRows | None, rows: tuple[Rows, Rows], block: Block,
    axis: Axis | None, size: int,
) -> None:  # fmt: skip
    """The range of positions, one call of ``attend``, the nest's body from its result."""
    d, writer = k.axes[-1], k.writer
    width, values = maximum(a.head.args[0]), d.most
    value_size = values if a.part is None else values - 2
    first = build.const(0)
    members: list[Steps] = []
    if axis is not None:
        first = build.var(f"{axis.variable.attr}.first", axis.variable.args[0])
        block.names[first] = block.names[axis.variable]
        last = maximum(axis.variable.args[0]) - 1
        members = [Steps(Loop(axis.variable, first, build.add(first, build.const(size)), (0, last)), size)]
    row = build.const(0) if axis is None else build.sub(axis.variable, first)
    partial = WARPS * size * (value_size + 2)  # attend.cuh: attend_partial
    parts = k.reserve("@parts", partial, (build.const(partial),), (build.const(1),))
    shape = (build.const(size), build.const(values))
    out = k.reserve("@out", size * values, shape, (build.const(values), build.const(1)))
    queries = k.reserve("@q", size * width, (build.const(size), a.head.args[0]), (build.const(width), build.const(1)))
    begin, end = _write_range(k, a, block)
    for r in rows:
        if isinstance(r, Computed):
            _evaluate(k, r, block, begin, end)
    newly = "" if newest is None else f", {_write_newest(k, newest, rows, block, (width, value_size))}"
    k.defers = _defers(k, a, newest, rows)
    k.late = not k.defers and _is_early(k, a, newest, rows, axis, size)
    fill = _write_queries(k, a, block, members, row)
    score = _write_score(k, a, block, axis)
    cache = _write_cache(k, a, rows, block)
    how = "kUnfinished" if a.part is not None else "kEmptyIsNan" if a.masked == "nan" else "kEmptyIsZero"
    call = f"attend<{size}, {width}, {value_size}, {how}{', true' if k.late else ''}>"
    ready = "[&] { scratch.events_reached(), scratch.begin(); }" if k.defers else "[] {}"
    block.items.append(f"{call}({fill}, {ready}, {queries}, {cache}, {begin}, {end}, {score}, {out}, {parts}{newly});")
    address = build.add(build.mul(row, build.const(values)), build.sub(d.variable, d.low))
    writer.memory.results[build.acc(0)] = Expr.make(Op.LOAD, (address,), "@out", DType.F32)
    home = Block(block)
    k.write_epilogue(home, [*members, Steps(d.loop(), values)])
    block.items += [home, SYNC]


def _defers(k: KernelWriter, a: Attention, newest: NewestRows | None, rows: tuple[Rows, Rows]) -> bool:
    """Whether nothing but keys and values where they lie needs the task's events: then queries come before these. They
    may come from the same memory as keys and values, and then need what these need.
    """
    known = {k.kernel.operands[i].name for i in k.use.settled | k.use.flagged}
    apart = {k.nest.target, *(r.operand for r in rows)}
    operands = {o.name for o in k.kernel.operands}
    parts = [a.q, a.start, a.stop, a.scan, a.part, *(r.base for r in rows)]
    parts += [] if newest is None else [newest.at]
    early = {e.attr for part in parts if part is not None for e in loads(part)} & operands
    early |= set() if newest is None else {newest.key.operand, newest.value.operand}
    return k.use.waits and operands - apart | early <= known and not any(isinstance(r, Computed) for r in rows)


def _is_early(
    k: KernelWriter, a: Attention, newest: NewestRows | None, rows: tuple[Rows, Rows], axis: Axis | None, size: int
) -> bool:
    """Whether keys and values can be asked for before anything else: no op before writes them, where they lie is known,
    and the task needs one pass over them.
    """
    if k.use.waits or any(isinstance(r, Computed) for r in rows):
        return False
    parts = [a.start, a.stop, a.scan, a.part, *(r.base for r in rows)]
    parts += [] if newest is None else [newest.at]
    needed = {e.attr for part in parts if part is not None for e in loads(part)} | {r.operand for r in rows}
    known = {k.kernel.operands[i].name for i in k.use.settled - k.use.flagged}
    once = all(x.most == 1 for x in k.axes[:-1] if x is not axis) and (axis is None or axis.most == size)
    return once and needed <= known


def _write_newest(
    k: KernelWriter, newest: NewestRows, rows: tuple[Rows, Rows], block: Block, widths: tuple[int, int]
) -> str:
    """The C++ text of newest.cuh's Newest: the position, where its rows lie, memory for them as the cache has them."""
    writer = k.writer
    names = [
        k.reserve(name, width, (build.const(width),), (build.const(1),), r.dtype)
        for name, r, width in zip(("@newest_key", "@newest_value"), rows, widths, strict=True)
    ]
    at = writer.memory.lower(newest.at)
    writer.count((at,))
    given = [
        bare(writer.value(at, block)),
        *(write_start(writer, r, block) for r in (newest.key, newest.value)),
        *names,
    ]
    return f"Newest{{{', '.join(given)}}}"


def _write_queries(k: KernelWriter, a: Attention, block: Block, members: list[Steps], row: Expr) -> str:
    """What writes the queries to shared memory, as a lambda: ``attend`` calls it while the first keys are on their way.

    A thread takes the same elements of all queries, so that what they share is computed once (a rotation's angles), but
    where a query needs a reduction of its own.
    """
    writer = k.writer
    name = writer.fresh("fill", numbered=False)
    body = Block(block, f"const auto {name} = [&]")
    body.end = "};"
    body.items += [LATE] if k.late else []
    head = Steps(full(a.head), maximum(a.head.args[0]))
    if any(e.op is Op.REDUCE for e in walk(a.q)):
        write_shared_store(writer, body, [*members, head], "@q", (row, a.head), a.q, trusted=True)
    else:
        made = lower_store(writer, "@q", (row, a.head), a.q, trusted=True)
        inner = deal(writer, body, [head], MEMBERS[BLOCK], ALONE)
        for member in members:
            inner = open_loop(writer, inner, member.loop)
        writer.count((made.address, made.value))
        made.write(writer, inner, (made.address, made.value), ())
        close(inner, body)
    block.items.append(body)
    return name


def _evaluate(k: KernelWriter, rows: Computed, block: Block, begin: str, end: str) -> None:
    """Keys or values of the positions that will be visited, into memory of the block's own."""
    key, element, e = rows.what
    positions = maximum(key.args[0])
    low, high = (build.var(f"{rows.operand}.{b}", positions + 1) for b in ("begin", "end"))
    home = Block(block)
    home.names.update({low: begin, high: end})
    steps = [Steps(Loop(key, low, high, (0, positions - 1)), positions), Steps(full(element), maximum(element.args[0]))]
    write_shared_store(k.writer, home, steps, rows.operand, (key, element), e, trusted=True)
    block.items.append(home)


def _write_cache(k: KernelWriter, a: Attention, rows: tuple[Rows, Rows], block: Block) -> str:
    """Keys and values as attend_parts.cuh takes them; returns the C++ name."""
    cache = k.writer.fresh("cache", numbered=False)
    if any(r.page for r in rows):
        kind, given = "Pages", [f"{write_starts(k.writer, r, a.key, block)}, {r.grain}" for r in rows]
    else:
        kind = f"Cache<{', '.join(CUDA.storage[r.dtype] for r in rows)}>"
        given = [f"{write_start(k.writer, r, block)}, {r.stride}" for r in rows]
    block.items.append(f"const {kind} {cache} = {{{', '.join(given)}}};")
    return cache


def _write_range(k: KernelWriter, a: Attention, block: Block) -> tuple[str, str]:
    """The positions to visit: [start, stop), cut to the cache and to the last position that ``scan`` lets count."""
    writer, lower = k.writer, k.writer.memory.lower
    extent = lower(a.key.args[0])
    start = build.const(0) if a.start is None else build.pointwise(Op.MAX, lower(a.start), build.const(0))
    stop = extent if a.stop is None else build.pointwise(Op.MIN, lower(a.stop), extent)
    writer.count((start, stop))
    begin, end = writer.fresh("begin", numbered=False), writer.fresh("end", numbered=False)
    fixed = "const " if a.part is None else ""
    block.items.append(f"{fixed}int64_t {begin} = {bare(writer.value(start, block))};")
    if a.scan is None:
        block.items.append(f"{fixed}int64_t {end} = {bare(writer.value(stop, block))};")
    else:
        _write_scan(k, a.scan, a, block, (begin, end), stop)
    if a.part is not None:
        part, parts = (bare(writer.value(lower(e), block)) for e in (a.part, a.part.args[0]))
        block.items.append(f"attend_part({part}, {parts}, {begin}, {end});")
    return begin, end


def _write_scan(k: KernelWriter, scan: Expr, a: Attention, block: Block, names: tuple[str, str], stop: Expr) -> None:
    """The end of the range, where ``scan`` decides it."""
    writer, (begin, end) = k.writer, names
    last = writer.fresh("stop", numbered=False)
    block.items.append(f"const int64_t {last} = {bare(writer.value(stop, block))};")
    holds, position = writer.fresh("holds", numbered=False), writer.fresh("position", numbered=False)
    scan = writer.memory.lower(scan)
    body = Block(block, f"const auto {holds} = [&](int64_t {position}) -> bool", a.key)
    body.end, body.shared = "};", ALONE
    body.names[a.key] = position
    writer.count((scan,))
    text = writer.value(scan, body)
    body.items.append(f"return {bare(text)};")
    block.items.append(body)
    found = f"last_position({begin}, {last}, {holds}, *scratch.exchange)"
    block.items.append(f"int64_t {end} = {found};")
    if a.masked == "all":  # where no position is left, the softmax is over all of them
        block.items.append(f"if ({end} == {begin}) {end} = {last};")


def _write_score(k: KernelWriter, a: Attention, block: Block, axis: Axis | None) -> str:
    """The score as a lambda, for attend.cuh to inline into its loop over positions."""
    writer = k.writer
    score = writer.memory.lower(substitute(a.score, {build.acc(0): DOT}))
    name, row, position, dot = (writer.fresh(n, numbered=False) for n in ("score", "row", "position", "dot"))
    body = Block(block, f"const auto {name} = [&](int {row}, int64_t {position}, float {dot}) -> float", a.key)
    body.end, body.shared = "};", ALONE
    body.names.update({a.key: position, DOT: dot})
    if axis is not None and axis.variable in score.free:
        member = writer.variable_name(axis.variable)
        body.items.append(f"const int64_t {member} = {block.names[axis.variable]} + {row};")
        body.names[axis.variable] = member
    writer.count((score,))
    text = writer.value(score, body)
    body.items.append(f"return {bare(text)};")
    block.items.append(body)
    return name
