"""How many bytes a task moves: distinct elements of every buffer that it loads or stores, once each."""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.nest import PART_BLOCK
from onelaunch.program.program import Kernel
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Task
from onelaunch.program.program import maximum


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of weights, and of everything."""

    weights: int
    nbytes: int


class Meter:
    """Counts for one program. Along each dimension of a buffer a task meets at most as many elements as the variables
    in that index have values, and at most those of its region: of an embedding one row, not the table that is declared.
    Sizes are the symbols' maxima, and attention counts all positions that its cache can hold.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._places = [_places(kernel) for kernel in program.kernels]
        self._known: dict[int, Traffic] = {}

    def of(self, number: int) -> Traffic:
        """What one task moves."""
        if number not in self._known:
            self._known[number] = self._count(self._program.tasks[number])
        return self._known[number]

    def _count(self, task: Task) -> Traffic:
        program = self._program
        nest = program.kernels[task.kernel].nest
        values = {v: max(high - low, 0) for v, (low, high) in zip(nest.vars, task.tile, strict=True)}
        if (a := nest.attention) is not None and a.part is not None:  # parts share the positions, block by block
            positions, parts = maximum(a.key.args[0]), max(maximum(a.part.args[0]), 1)
            blocks = math.ceil(math.ceil(positions / PART_BLOCK) / parts)
            values[a.key] = min(values.get(a.part, parts) * blocks * PART_BLOCK, positions)
        most: dict[int, list[tuple[int, ...]]] = {}
        for operand, indices in self._places[task.kernel]:
            counts = tuple(math.prod(_values(v, values) for v in variables) for variables in indices)
            most.setdefault(task.operands[operand], []).append(counts)
        weights = total = 0
        for region in (*task.reads, *task.writes):
            b = program.buffers[region.buffer]
            found = [_within(region, counts) for counts in most.get(region.buffer, [])]
            nbytes = b.dtype.itemsize * max(found, default=0)
            total += nbytes
            weights += nbytes if b.role is Role.WEIGHT else 0
        return Traffic(weights, total)


def _places(kernel: Kernel) -> list[tuple[int, list[frozenset[Expr]]]]:
    """Operand and, by dimension, the variables in its index, of every load and of the store."""
    numbers = {operand.name: n for n, operand in enumerate(kernel.operands)}
    nest = kernel.nest
    found = [(numbers[nest.target], [_variables(i) for i in nest.index])]
    found += [(numbers[str(e.attr)], [_variables(i) for i in e.args]) for e in nest.loads()]
    return found


def _variables(index: Expr) -> frozenset[Expr]:
    return frozenset(e for e in walk(index) if e.op is Op.VAR)


def _values(variable: Expr, tile: dict[Expr, int]) -> int:
    return tile[variable] if variable in tile else maximum(variable.args[0])


def _within(region: Region, counts: tuple[int, ...]) -> int:
    sizes = (s.high - s.low if s.via is None else s.via[2] - s.via[1] for s in region.box)
    return math.prod(min(max(size, 0), count) for size, count in zip(sizes, counts, strict=True))
