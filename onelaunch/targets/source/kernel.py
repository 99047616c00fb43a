"""What compiled targets share in writing a kernel: names for what a nest mentions, and functions that declare them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar
from typing import Generic
from typing import TypeVar

from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.memory import Memory
from onelaunch.targets.source.tiles import Axis
from onelaunch.targets.source.tiles import axes
from onelaunch.targets.source.tiles import high_name
from onelaunch.targets.source.tiles import low_name
from onelaunch.targets.source.writer import Writer
from onelaunch.targets.source.writer import identifier

W = TypeVar("W", bound=Writer)


class KernelSource(Generic[W]):
    """A kernel's functions while they are written.

    Args:
        number: of the kernel in its program.
        kernel: what to write.
        symbols: of the program, in order.
        tiles: the distinct tiles of the tasks that run the kernel.
        constant: operands that are weights in all of these tasks.
        make: the target's writer, over what is in memory and the names of symbols and tile bounds.
    """

    SYMBOL: ClassVar[str]  # how the target's code reads symbol {}
    BOUND: ClassVar[str]  # and bound {} of a tile: low and high of each variable in turn

    def __init__(
        self, number: int, kernel: Kernel, symbols: list[str], tiles: list[tuple[tuple[int, int], ...]],
        constant: set[int], make: Callable[[Memory, dict[str, str]], W],
    ) -> None:  # fmt: skip
        self.number, self.kernel, self.nest, self.tiles, self.constant = number, kernel, kernel.nest, tiles, constant
        names = {s: f"sym_{identifier(s)}" for s in symbols}
        bounds = [n(i) for i in range(len(kernel.nest.vars)) for n in (low_name, high_name)]
        self.writer: W = make(Memory(()), {**names, **{b: b for b in bounds}})
        self.declarations: list[tuple[str, str]] = []
        for i, operand in enumerate(kernel.operands):
            self.declare(i, operand)
        for places, found in ((self.SYMBOL, names.values()), (self.BOUND, bounds)):
            for i, name in enumerate(found):
                self.declarations.append((name, f"const int64_t {name} = {places.format(i)};"))
        self.axes: list[Axis] = axes(kernel, tiles)
        self.body = Block(None)

    def declare(self, number: int, operand: Operand) -> None:
        """Note how the target's code reaches an operand."""
        raise NotImplementedError

    def function(self, head: str, lines: list[str]) -> str:
        """A function with these lines, after the declarations of what they mention."""
        text = "\n".join(lines)
        kept: list[str] = []
        for name, declaration in reversed(self.declarations):
            if re.search(rf"\b{re.escape(name)}\b", text):
                kept.append(f"  {declaration}")
                text = f"{declaration}\n{text}"
        return "\n".join([f"{head} {{", *reversed(kept), *lines, "}"])
