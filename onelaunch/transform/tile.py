"""Tiling: an op becomes tasks, each a box of its nest's variables, with the regions of buffers that it touches.

How many tasks: no more than the machine's workers, and no more than the op's work pays for. A linear op is split along
its columns in multiples of the machine's ``linear_rows``; an attention along its queries; other ops along variables
whose split repeats no reduction and, for scatters, keeps the stored elements of two tasks apart.
"""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import walk
from onelaunch.graph.index import Range
from onelaunch.graph.index import bounds
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest
from onelaunch.program.machine import Machine
from onelaunch.program.program import Kernel
from onelaunch.program.program import Span
from onelaunch.program.program import maximum
from onelaunch.transform import cost

Tile = tuple[tuple[int, int], ...]
Box = tuple[Span, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """What one tile touches: (operand number, box), each once."""

    reads: tuple[tuple[int, Box], ...]
    writes: tuple[tuple[int, Box], ...]


def tiles(nest: Nest, machine: Machine, workers: int | None = None) -> list[Tile]:
    """The boxes of the nest's variables that its tasks compute, in order; for ``workers``, by default all."""
    whole = [(0, maximum(v.args[0])) for v in nest.vars]
    pays = int(cost.work(nest, machine) / (machine.grain or machine.task + machine.dependency))
    parts = max(1, min(cost.parallel(nest, machine), pays, machine.workers if workers is None else workers))
    result: list[list[Range]] = [whole]
    for n in _splittable(nest):
        if parts <= 1:
            break
        grain = _grain(nest, n, machine)
        pieces = _split(whole[n], min(parts, max(1, whole[n][1] // grain)), grain)
        result = [[*box[:n], piece, *box[n + 1 :]] for box in result for piece in pieces]
        parts = parts // len(pieces)
    return [tuple(box) for box in result]


def _grain(nest: Nest, n: int, machine: Machine) -> int:
    """Values of a variable that belong together: columns of one vector, queries that share their keys."""
    if nest.kind is Kind.LINEAR:
        return machine.linear_rows
    if nest.attention is None:
        return 1
    v = nest.vars[n]
    shared = [e.args[1] for e in walk(nest.attention.k) if e.op is Op.FLOORDIV and e.args[0] is v]
    return int(shared[0].value) if shared and shared[0].is_const else 1


def _split(full: Range, parts: int, grain: int) -> list[Range]:
    """``parts`` pieces of nearly equal size, each beginning at a multiple of ``grain``. The larger ones come first: the
    last go to workers that are free late.
    """
    units = math.ceil(full[1] / grain)
    size, more = divmod(units, parts)
    ends = [min(full[1], grain * (size * (p + 1) + min(p + 1, more))) for p in range(parts)]
    starts = [0, *ends[:-1]]
    return [(a, b) for a, b in zip(starts, ends, strict=True) if a < b]


def _splittable(nest: Nest) -> list[int]:
    """Numbers of the variables that may be split, the best first."""
    last = len(nest.vars) - 1
    if nest.kind is Kind.LINEAR:
        return [last]
    if nest.kind is Kind.ATTEND:
        return list(range(last))
    reductions = [e for root in (nest.body, *nest.index) for e in walk(root) if e.op is Op.REDUCE]
    stored = [i for i in nest.index if not loads(i)]
    return [
        n for n, v in enumerate(nest.vars) if all(v in r.free for r in reductions) and any(v in i.free for i in stored)
    ]


def footprint(kernel: Kernel, tile: Tile) -> Footprint:
    """The boxes that a kernel reads and writes when it runs ``tile``."""
    nest = kernel.nest
    number = {o.name: n for n, o in enumerate(kernel.operands)}
    extents = [tuple(maximum(e) for e in o.shape) for o in kernel.operands]
    env: dict[Expr, Range] = {v: (low, high - 1) for v, (low, high) in zip(nest.vars, tile, strict=True)}
    reads: dict[tuple[int, Box], None] = {}
    for e in nest.loads():
        n = number[e.attr]
        reads.setdefault((n, _box(e.args, extents[n], env)))
    target = number[nest.target]
    write = (target, _box(nest.index, extents[target], env))
    return Footprint(tuple(reads), (write,))


def _box(index: tuple[Expr, ...], extents: tuple[int, ...], env: dict[Expr, Range]) -> Box:
    """Spans of an index over a tile; what data decides may be anywhere, what conditions guard stays inside."""
    spans: list[Span] = []
    for i, extent in zip(index, extents, strict=True):
        found = None if loads(i) else bounds(i, env)
        low, high = found if found is not None else (0, extent - 1)
        spans.append(Span(max(0, min(low, extent - 1)), max(1, min(high + 1, extent))))
    return tuple(spans)
