"""Attend kernels: queries and scores from expressions, keys and values in place, the softmax by attend.h.

Neighbouring queries along one axis share a pass over keys and values where those depend on the axis only through
``h // g`` (grouped heads), or not at all. Keys or values that are not rows in memory with unit stride along the head
(``onelaunch.targets.source.rows``) are evaluated into scratch first.
"""

from __future__ import annotations

import math

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute
from onelaunch.graph.nest import Attention
from onelaunch.program.program import maximum
from onelaunch.targets.cpu.kernel import KernelWriter
from onelaunch.targets.cpu.linear import INNER_BLOCK
from onelaunch.targets.source.attention import DOT
from onelaunch.targets.source.attention import open_group
from onelaunch.targets.source.attention import plain
from onelaunch.targets.source.attention import sharing
from onelaunch.targets.source.attention import values_of
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CPU
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.nests import full
from onelaunch.targets.source.nests import open_loop
from onelaunch.targets.source.nests import write_store
from onelaunch.targets.source.printer import bare
from onelaunch.targets.source.rows import Rows
from onelaunch.targets.source.rows import in_place
from onelaunch.targets.source.rows import write_start
from onelaunch.targets.source.rows import write_starts
from onelaunch.targets.source.tiles import Axis

GROUP = 8  # queries that share one pass at most: as many as linear.h takes tokens at once


def write_attend(k: KernelWriter) -> None:
    """Writes the kernel's body."""
    a = k.nest.attention
    assert a is not None, "an Attend kernel without attention"
    if a.q.dtype.compute is DType.F64 or a.v.dtype.compute is DType.F64 or not k.axes[-1].is_full:
        k.writer.memory.results[build.acc(0)] = k.writer.memory.lower(plain(a))
        return k.write_epilogue(k.nest)
    memory = k.writer.memory
    shared = [memory.lower(e) for e in (a.k, a.v, a.start, a.stop, a.scan, a.part) if e is not None]
    axis, size = sharing(k.axes[:-1], k.tiles, shared, GROUP)
    blocks = [k.body]
    for other in k.axes[:-1]:
        if other is not axis:
            blocks.append(open_loop(k.writer, blocks[-1], other.loop()))
    if axis is not None:
        blocks.append(open_group(k.writer, blocks[-1], axis, size))
    _write_group(k, a, blocks[-1], axis, size)
    for inner, outer in zip(reversed(blocks[1:]), reversed(blocks[:-1]), strict=True):
        outer.items.append(inner)
    return None


def _write_group(k: KernelWriter, a: Attention, block: Block, axis: Axis | None, size: int) -> None:
    """Queries into scratch, range of positions, one call of ``attend``, and the nest's body from its result."""
    d, writer = k.axes[-1], k.writer
    width, values = maximum(a.head.args[0]), d.most
    first = build.const(0) if axis is None else _first(block, axis)
    steps = [] if axis is None else [_members(axis, first, size)]
    row = build.const(0) if axis is None else build.sub(axis.variable, first)
    begin, end = _write_range(k, a, block)
    keys = in_place(writer.memory, a.k, a.key, a.head, build.const(0))
    if keys is None:
        keys = _evaluated(k, block, a.k, a.key, full(a.head, CPU.independent), begin, end, "@k")
    data = in_place(writer.memory, values_of(a), a.key, d.variable, d.low)
    if data is None:
        data = _evaluated(k, block, a.v, a.key, d.loop(CPU.independent), begin, end, "@v")
    kind, parts = _write_places(k, a, (keys, data), block)
    plain_q = k.reserve("@q", size * width, (build.const(size), a.head.args[0]), (build.const(width), build.const(1)))
    padded = -(-width // INNER_BLOCK) * INNER_BLOCK
    ready = k.reserve("@ready", size * padded, (build.const(size * padded),), (build.const(1),))
    shape = (build.const(size), build.const(values))
    out = k.reserve("@out", size * values, shape, (build.const(values), build.const(1)))
    home = Block(block)
    write_store(writer, home, [*steps, full(a.head, CPU.independent)], "@q", (row, a.head), a.q, trusted=True)
    block.items.append(home)
    head_size = bare(writer.value(writer.memory.lower(a.head.args[0]), block))
    block.items.append(f"prepare<{CPU.storage[keys.dtype]}, {size}>({plain_q}, {width}, {head_size}, {ready});")
    score = _write_score(k, a, block, axis)
    cache = writer.fresh("cache", numbered=False)
    value_size = values if a.part is None else values - 2
    parts[2:2] = [head_size, str(value_size)]
    block.items.append(f"const {kind} {cache} = {{{', '.join(parts)}}};")
    zero = "false" if a.masked == "nan" else "true"
    arguments = f"{ready}, {cache}, {begin}, {end}, {score}"
    if a.part is None:
        block.items.append(f"attend<{size}>({arguments}, nullptr, {out}, {values}, {zero});")
    else:
        block.items.append(f"attend_unfinished<{size}>({arguments}, {out}, {values});")
    address = build.add(build.mul(row, build.const(values)), build.sub(d.variable, d.low))
    writer.memory.results[build.acc(0)] = Expr.make(Op.LOAD, (address,), "@out", DType.F32)
    home = Block(block)
    write_store(writer, home, [*steps, d.loop(CPU.independent)], k.nest.target, k.nest.index, k.nest.body)
    block.items.append(home)


def _first(block: Block, axis: Axis) -> Expr:
    """The number of a group's first query, as a variable that the group's loop binds."""
    first = build.var(f"{axis.variable.attr}.first", axis.variable.args[0])
    block.names[first] = block.names[axis.variable]
    return first


def _members(axis: Axis, first: Expr, size: int) -> Loop:
    last = maximum(axis.variable.args[0]) - 1
    return Loop(axis.variable, first, build.add(first, build.const(size)), (0, last))


def _write_range(k: KernelWriter, a: Attention, block: Block) -> tuple[str, str]:
    """The positions to visit: [start, stop), cut to the cache and to the last position that ``scan`` lets count."""
    writer, lower = k.writer, k.writer.memory.lower
    extent = lower(a.key.args[0])
    start = build.const(0) if a.start is None else build.pointwise(Op.MAX, lower(a.start), build.const(0))
    stop = extent if a.stop is None else build.pointwise(Op.MIN, lower(a.stop), extent)
    scan = None if a.scan is None else lower(a.scan)
    writer.count((start, stop, *(() if scan is None else (scan,))))
    begin, end = writer.fresh("begin", numbered=False), writer.fresh("end", numbered=False)
    fixed = "const " if a.part is None else ""
    block.items.append(f"{fixed}int64_t {begin} = {bare(writer.value(start, block))};")
    const = "const " if scan is None and a.part is None else ""
    block.items.append(f"{const}int64_t {end} = {bare(writer.value(stop, block))};")
    if scan is not None:
        search = Block(block, f"for (; {end} > {begin}; --{end})", a.key)
        search.names[a.key] = f"({end} - 1)"
        search.items.append(f"if ({bare(writer.value(scan, search))}) break;")
        if a.masked == "all":  # where no position is left, the softmax is over all of them
            last = writer.define(stop, end, block)
            block.items += [search, f"if ({end} == {begin}) {end} = {last};"]
        else:
            block.items.append(search)
    if a.part is not None:
        part, parts = (bare(writer.value(lower(e), block)) for e in (a.part, a.part.args[0]))
        block.items.append(f"attend_part({part}, {parts}, {begin}, {end});")
    return begin, end


def _write_places(k: KernelWriter, a: Attention, rows: tuple[Rows, Rows], block: Block) -> tuple[str, list[str]]:
    """The type of attend.h that says where keys and values lie, and what it is made of besides their sizes."""
    pages = [r.page for r in rows if r.page]
    if pages:
        return "Pages", [
            *(f"{write_starts(k.writer, r, a.key, block)}, {r.stride}" for r in rows), str(math.gcd(*pages))
        ]  # fmt: skip
    kind = f"Cache<{', '.join(CPU.storage[r.dtype] for r in rows)}>"
    return kind, [f"{write_start(k.writer, r, block)}, {r.stride}" for r in rows]


def _evaluated(
    k: KernelWriter, block: Block, e: Expr, key: Expr, elements: Loop, begin: str, end: str, name: str
) -> Rows:
    """Keys or values of the positions that will be visited, in scratch."""
    element, writer = elements.variable, k.writer
    width = maximum(elements.high) - (int(elements.low.value) if elements.low.is_const else 0)
    positions = maximum(key.args[0])
    strides = (build.const(width), build.const(1))
    k.reserve(name, positions * width, (build.const(positions), build.const(width)), strides)
    low, high = (build.var(f"{name}.{b}", positions + 1) for b in ("begin", "end"))
    span = Loop(key, low, high, (0, positions - 1))
    home = Block(block)
    home.names.update({low: begin, high: end})
    write_store(writer, home, [span, elements], name, (key, build.sub(element, elements.low)), e, trusted=True)
    block.items.append(home)
    return Rows(DType.F32, name, build.const(0), width)


def _write_score(k: KernelWriter, a: Attention, block: Block, axis: Axis | None) -> str:
    """The score as a lambda, for attend.h to inline into its loop over positions."""
    writer = k.writer
    score = writer.memory.lower(substitute(a.score, {build.acc(0): DOT}))
    name, row, position, dot = (writer.fresh(n, numbered=False) for n in ("score", "row", "position", "dot"))
    body = Block(block, f"const auto {name} = [&](int {row}, int64_t {position}, float {dot}) -> float", a.key)
    body.end = "};"
    body.names.update({a.key: position, DOT: dot})
    if axis is not None:
        member = writer.variable_name(axis.variable)
        if axis.variable in score.free:
            body.items.append(f"const int64_t {member} = {block.names[axis.variable]} + {row};")
            body.names[axis.variable] = member
    if row not in "".join(i for i in body.items if isinstance(i, str)):
        body.header = body.header.replace(f"int {row},", "int,")
    writer.count((score,))
    text = writer.value(score, body)
    body.items.append(f"return {bare(text)};")
    block.items.append(body)
    return name
