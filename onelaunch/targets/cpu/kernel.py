"""One kernel as a C++ function: declarations of what it uses, and a body by the kind of its nest."""

from __future__ import annotations

import dataclasses
import re

from onelaunch.graph.expr import Expr
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CPU
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.memory import Memory
from onelaunch.targets.source.memory import Place
from onelaunch.targets.source.nests import write_store
from onelaunch.targets.source.tiles import Axis
from onelaunch.targets.source.tiles import axes
from onelaunch.targets.source.tiles import high_name
from onelaunch.targets.source.tiles import low_name
from onelaunch.targets.source.tiles import most
from onelaunch.targets.source.tiles import offset
from onelaunch.targets.source.writer import Writer
from onelaunch.targets.source.writer import identifier

__all__ = ["ALIGNMENT", "Code", "KernelWriter", "most", "offset"]

ALIGNMENT = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """Source of one kernel, and what it needs."""

    run: str
    prefetch: str  # empty: nothing to ask for
    scratch: int  # bytes


class KernelWriter:
    """A kernel's function while it is written."""

    def __init__(
        self, number: int, kernel: Kernel, symbols: list[str], tiles: list[tuple[tuple[int, int], ...]],
        constant: set[int],
    ) -> None:  # fmt: skip
        self.number, self.kernel, self.nest, self.tiles, self.constant = number, kernel, kernel.nest, tiles, constant
        names = {s: f"sym_{identifier(s)}" for s in symbols}
        bounds = {n(i): n(i) for i in range(len(kernel.nest.vars)) for n in (low_name, high_name)}
        self.writer = Writer(Memory(()), CPU, {**names, **bounds})
        self.declarations: list[tuple[str, str]] = []
        for i, operand in enumerate(kernel.operands):
            self._declare(i, operand)
        for i, s in enumerate(symbols):
            self.declarations.append((names[s], f"const int64_t {names[s]} = args.symbols[{i}];"))
        for i in range(len(kernel.nest.vars)):
            for j, name in enumerate((low_name(i), high_name(i))):
                self.declarations.append((name, f"const int64_t {name} = tile[{2 * i + j}];"))
        self.axes: list[Axis] = axes(kernel, tiles)
        self.body = Block(None)
        self.scratch = 0

    def _declare(self, number: int, operand: Operand) -> None:
        name = self.writer.fresh(identifier(operand.name), numbered=False)
        const = "" if operand.name == self.nest.target else "const "
        type_text = f"{const}{CPU.storage[operand.dtype]}*"
        source = f"static_cast<{type_text}>(args.buffers[operands[{number}]])"
        self.declarations.append((name, f"{type_text} const {name} = {source};"))
        self.writer.memory.add(Place(operand, name, number))

    def reserve(self, name: str, count: int, shape: tuple[Expr, ...], strides: tuple[Expr, ...]) -> str:
        """``count`` floats of the worker's scratch, as operand ``name`` for generated code; returns the C++ name."""
        from onelaunch.graph.dtype import DType

        pointer = self.writer.fresh(identifier(name.lstrip("@")), numbered=False)
        text = f"float* const {pointer} = reinterpret_cast<float*>(scratch.data + {self.scratch});"
        self.declarations.append((pointer, text))
        self.writer.memory.add(Place(Operand(name, DType.F32, shape, strides), pointer))
        self.scratch += -(-count * 4 // ALIGNMENT) * ALIGNMENT
        return pointer

    def loops(self) -> list[Loop]:
        """The nest's loops over a task's tile."""
        walked = self.nest.walked  # steps that may meet at one place stay in order
        free = self.axes and self.axes[-1].variable not in walked
        return [a.loop(CPU.independent if free and a is self.axes[-1] else "") for a in self.axes]

    def write(self) -> Code:
        """The finished function."""
        from onelaunch.targets.cpu.attend import write_attend
        from onelaunch.targets.cpu.linear import write_linear

        prefetch: list[str] = []
        nest = self.nest
        if nest.kind is Kind.LINEAR:
            prefetch = write_linear(self)
        elif nest.kind is Kind.ATTEND:
            write_attend(self)
        else:
            self.write_epilogue(nest)
        lines = list(self.body.lines(1))
        signature = "const Args& args, const uint32_t* operands, const int64_t* tile"
        run = self._function(f"void onelaunch_run_{self.number}({signature}, Scratch& scratch)", lines)
        asked = self._function(f"void onelaunch_prefetch_{self.number}({signature})", prefetch) if prefetch else ""
        return Code(run, asked, self.scratch)

    def write_epilogue(self, nest: Nest) -> None:
        """The nest's own loops and store."""
        write_store(self.writer, self.body, self.loops(), nest.target, nest.index, nest.body)

    def _function(self, head: str, lines: list[str]) -> str:
        used = [] if not lines else list(lines)
        text = "\n".join(used)
        kept: list[str] = []
        for name, declaration in reversed(self.declarations):
            if re.search(rf"\b{re.escape(name)}\b", text):
                kept.append(f"  {declaration}")
                text = f"{declaration}\n{text}"
        return "\n".join([f"{head} {{", *reversed(kept), *lines, "}"])
