"""One kernel as CUDA C++: a device function that a block's computing threads run, and one that the producer runs.

A function declares what its body mentions: operands, symbols, tile bounds, memory of its own. Such memory lies in
shared memory while there is room, then in global memory; nothing in it outlives the task.
"""

from __future__ import annotations

import dataclasses

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.nest import Kind
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.targets.cuda.nests import Steps
from onelaunch.targets.cuda.nests import write_shared_store
from onelaunch.targets.cuda.writer import TeamWriter
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CUDA
from onelaunch.targets.source.kernel import KernelSource
from onelaunch.targets.source.memory import Place
from onelaunch.targets.source.tiles import Axis
from onelaunch.targets.source.writer import identifier

ALIGNMENT = 128
SHARED_MOST = 120 * 1024  # bytes of a kernel's own memory in shared memory; the ring takes what is left
SYNC = "sync_block();"


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """Source of one kernel, and the memory of its own that a block needs."""

    run: str
    stream: str  # empty: nothing goes through the ring
    shared: int  # bytes
    scratch: int


class KernelWriter(KernelSource[TeamWriter]):
    """A kernel's functions while they are written. ``constant``: operands that are weights in all tasks."""

    SYMBOL, BOUND = "launch.symbols[{}]", "task.tile[{}]"

    def __init__(
        self, number: int, kernel: Kernel, symbols: list[str], tiles: list[tuple[tuple[int, int], ...]],
        constant: set[int],
    ) -> None:  # fmt: skip
        super().__init__(
            number, kernel, symbols, tiles, constant, lambda memory, names: TeamWriter(memory, CUDA, names)
        )
        self.stream: list[str] = []  # lines of the producer's function
        self.shared = self.scratch = 0

    def declare(self, number: int, operand: Operand) -> None:
        """See ``KernelSource``."""
        name = self.writer.fresh(identifier(operand.name), numbered=False)
        type_text = f"{'' if operand.name == self.nest.target else 'const '}{CUDA.storage[operand.dtype]}"
        text = f"{type_text}* const {name} = operand<{type_text}>(launch, task, {number});"
        self.declarations.append((name, text))
        self.writer.memory.add(Place(operand, name, number))

    def reserve(
        self, name: str, count: int, shape: tuple[Expr, ...], strides: tuple[Expr, ...], dtype: DType = DType.F32
    ) -> str:
        """Memory for ``count`` elements, as operand ``name`` for generated code; returns the C++ name."""
        pointer = self.writer.fresh(identifier(name.lstrip("@")), numbered=False)
        size = -(-count * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        if self.shared + size <= SHARED_MOST:
            home, self.shared = f"scratch.shared + {self.shared}", self.shared + size
        else:
            home, self.scratch = f"scratch.global + {self.scratch}", self.scratch + size
        storage = CUDA.storage[dtype]
        self.declarations.append((pointer, f"{storage}* const {pointer} = reinterpret_cast<{storage}*>({home});"))
        self.writer.memory.add(Place(Operand(name, dtype, shape, strides), pointer))
        return pointer

    def steps(self, axes: list[Axis] | None = None) -> list[Steps]:
        """The loops over a task's tile."""
        return [Steps(a.loop(), a.most) for a in (self.axes if axes is None else axes)]

    def write(self) -> Code:
        """The finished functions."""
        from onelaunch.targets.cuda.attend import write_attend
        from onelaunch.targets.cuda.linear import write_linear

        if self.nest.kind is Kind.LINEAR:
            write_linear(self)
        elif self.nest.kind is Kind.ATTEND:
            write_attend(self)
        else:
            self.write_epilogue(self.body, self.steps())
        common = "const Launch& launch, const Task& task"
        head = f"__device__ __noinline__ void run_{self.number}({common}, const Scratch& scratch, Ring& stages)"
        run = self.function(head, list(self.body.lines(1)))
        head = f"__device__ __forceinline__ void stream_{self.number}({common}, Source& producer)"
        stream = self.function(head, self.stream) if self.stream else ""
        return Code(run, stream, self.shared, self.scratch)

    def write_epilogue(self, block: Block, steps: list[Steps]) -> None:
        """The nest's own loops and store."""
        nest = self.nest
        write_shared_store(self.writer, block, steps, nest.target, nest.index, nest.body, walked=nest.walked)
