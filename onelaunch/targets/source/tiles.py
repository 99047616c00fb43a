"""What is known of a kernel's tiles before a task is run: bounds that all its tasks share are constants."""

from __future__ import annotations

import dataclasses

from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.program.program import Kernel
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import maximum
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.loops import smaller


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One variable of a kernel's nest: bounds within its tile, and the most steps that a tile has."""

    variable: Expr
    low: Expr
    high: Expr
    most: int

    def loop(self, pragma: str = "") -> Loop:
        """The loop over a tile's part of the variable."""
        first = int(self.low.value) if self.low.is_const else 0
        last = int(self.high.value) if self.high.is_const else maximum(self.variable.args[0])
        return Loop(self.variable, self.low, self.high, (first, max(last - 1, first)), pragma)

    @property
    def is_full(self) -> bool:
        """True where every tile has ``most`` steps."""
        return self.low.is_const and self.high.is_const


def low_name(number: int) -> str:
    """The symbol (and C++ name) that stands for tile bound ``low`` of a variable."""
    return f"low{number}"


def high_name(number: int) -> str:
    """The symbol (and C++ name) that stands for tile bound ``high`` of a variable."""
    return f"high{number}"


def axes(kernel: Kernel, tiles: list[tuple[tuple[int, int], ...]]) -> list[Axis]:
    """The axes of ``kernel``, given the tiles of all its tasks."""
    found = []
    for i, variable in enumerate(kernel.nest.vars):
        spans = {t[i] for t in tiles}
        extent = variable.args[0]
        most = max((high - low for low, high in spans), default=0)
        lows, highs = {low for low, _ in spans}, {high for _, high in spans}
        low = build.const(lows.pop()) if len(lows) == 1 else build.sym(low_name(i), 0, maximum(extent))
        high = build.const(highs.pop()) if len(highs) == 1 else build.sym(high_name(i), 0, maximum(extent))
        if not extent.is_const:
            high = extent if high.is_const and int(high.value) >= maximum(extent) else smaller(high, extent)
        found.append(Axis(variable, low, high, most))
    return found


def tiles_of(program: Program) -> list[list[tuple[tuple[int, int], ...]]]:
    """The distinct tiles of every kernel's tasks, by kernel."""
    found: list[dict[tuple[tuple[int, int], ...], None]] = [{} for _ in program.kernels]
    for task in program.tasks:
        found[task.kernel].setdefault(task.tile)
    return [list(f) for f in found]


def constant_operands(program: Program) -> list[set[int]]:
    """The operands of every kernel that are weights in all of its tasks, by kernel."""
    found = [set(range(len(k.operands))) for k in program.kernels]
    for task in program.tasks:
        found[task.kernel] &= {i for i, b in enumerate(task.operands) if program.buffers[b].role is Role.WEIGHT}
    return found


def offset(axes: list[Axis]) -> Expr:
    """The row-major number of a step among ``axes``, counted from the tile's start; tiles as large as they get."""
    total = build.const(0)
    for axis in axes:
        steps = build.sub(axis.variable, axis.low)
        total = build.add(build.mul(total, build.const(axis.most)), steps)
    return total


def most(axes: list[Axis]) -> int:
    """The number of steps that a tile over ``axes`` has at most."""
    count = 1
    for axis in axes:
        count *= axis.most
    return count
