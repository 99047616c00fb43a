"""One kernel as a C++ function: declarations of what it uses, and a body by the kind of its nest."""

from __future__ import annotations

import dataclasses

from onelaunch.graph.expr import Expr
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.targets.source.dialect import CPU
from onelaunch.targets.source.kernel import KernelSource
from onelaunch.targets.source.loops import Loop
from onelaunch.targets.source.memory import Place
from onelaunch.targets.source.nests import write_store
from onelaunch.targets.source.writer import Writer
from onelaunch.targets.source.writer import identifier

ALIGNMENT = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """Source of one kernel, and what it needs."""

    run: str
    prefetch: str  # empty: nothing to ask for
    scratch: int  # bytes


class KernelWriter(KernelSource[Writer]):
    """A kernel's function while it is written."""

    SYMBOL, BOUND = "args.symbols[{}]", "tile[{}]"

    def __init__(
        self, number: int, kernel: Kernel, symbols: list[str], tiles: list[tuple[tuple[int, int], ...]],
        constant: set[int],
    ) -> None:  # fmt: skip
        super().__init__(number, kernel, symbols, tiles, constant, lambda memory, names: Writer(memory, CPU, names))
        self.scratch = 0

    def declare(self, number: int, operand: Operand) -> None:
        """See ``KernelSource``."""
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
        run = self.function(f"void onelaunch_run_{self.number}({signature}, Scratch& scratch)", lines)
        asked = self.function(f"void onelaunch_prefetch_{self.number}({signature})", prefetch) if prefetch else ""
        return Code(run, asked, self.scratch)

    def write_epilogue(self, nest: Nest) -> None:
        """The nest's own loops and store."""
        write_store(self.writer, self.body, self.loops(), nest.target, nest.index, nest.body)
