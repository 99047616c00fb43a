"""One kernel as CUDA C++: a device function that a block's computing threads run, and one that the producer runs.

A function declares what its body mentions: operands, symbols, tile bounds, memory of its own. Such memory lies in
shared memory while there is room, then in global memory; nothing in it outlives the task. Before its body it gets what
the body needs: staged operands, and where it must, its events.
"""

from __future__ import annotations

import dataclasses
import re

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import loads
from onelaunch.graph.nest import Kind
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.targets.cuda.dataflow import Use
from onelaunch.targets.cuda.nests import Steps
from onelaunch.targets.cuda.nests import write_shared_store
from onelaunch.targets.cuda.writer import TeamWriter
from onelaunch.targets.source.block import Block
from onelaunch.targets.source.dialect import CUDA
from onelaunch.targets.source.kernel import KernelSource
from onelaunch.targets.source.memory import Place
from onelaunch.targets.source.tiles import Axis
from onelaunch.targets.source.tiles import most
from onelaunch.targets.source.tiles import offset
from onelaunch.targets.source.writer import identifier

ALIGNMENT = 128
SHARED_MOST = 120 * 1024  # bytes of a kernel's own memory in shared memory; the ring takes what is left
SYNC = "sync_block();"
LATE = "@late;"
WALKED_MOST = 16 * 1024  # bytes of values that a walk stores, computed before it


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """Source of one kernel, and the memory of its own that a block needs."""

    run: str
    stream: str  # empty: nothing goes through the ring
    fetch: str  # empty: no inputs are fetched
    shared: int  # bytes
    scratch: int
    slot: int = 0  # bytes of one part of the inputs that are fetched
    parts: int = 0


class KernelWriter(KernelSource[TeamWriter]):
    """A kernel's functions while they are written. ``constant``: operands that are weights in all tasks; ``use``: how
    it gets its operands.
    """

    SYMBOL, BOUND = "launch.symbols[{}]", "task.tile[{}]"

    def __init__(
        self, number: int, kernel: Kernel, symbols: list[str], tiles: list[tuple[tuple[int, int], ...]],
        constant: set[int], use: Use,
    ) -> None:  # fmt: skip
        self.use = use
        self.stream: list[str] = []  # lines of the producer's function
        self.fetch: list[str] = []  # and of the fetcher's
        self.shared = self.scratch = self.slot = self.parts = 0  # see ``Code``
        self.staged = {s.operand: s for s in use.staged}
        self.kept = sum(
            _whole(s.most * kernel.operands[s.operand].dtype.itemsize)
            for s in use.staged if s.operand not in use.inputs | use.fetched
        )  # fmt: skip
        self.homes: dict[int, str] = {}  # of staged operands, once they are known to be used
        self.defers = False  # the body itself waits for events, where it needs them
        self.late = False  # a line LATE of the body stands for what looks for values with flags
        self.direct: dict[int, str] = {}  # staged operands that go somewhere else: the statement that copies them
        super().__init__(
            number, kernel, symbols, tiles, constant, lambda memory, names: TeamWriter(memory, CUDA, names)
        )

    def _take(self, size: int) -> str:
        """The address of ``size`` more bytes of the kernel's own memory. What may be staged finds room later."""
        size = _whole(size)
        if self.shared + size + self.kept <= SHARED_MOST:
            self.shared += size
            return f"scratch.shared + {self.shared - size}"
        self.scratch += size
        return f"scratch.global + {self.scratch - size}"

    def declare(self, number: int, operand: Operand) -> None:
        """See ``KernelSource``."""
        name = self.writer.fresh(identifier(operand.name), numbered=False)
        self.writer.memory.add(Place(operand, name, number))
        if number in self.staged:
            storage, first = CUDA.storage[operand.dtype], f"task.spans[{2 * self.slot_of(number)}]"
            text = f"const {storage}* const {name} = {_home(storage, number)} - {first};"
        else:
            text = f"const auto {name} = {self.reached(number)};"
        self.declarations.append((name, text))

    def slot_of(self, number: int) -> int:
        """The place of a staged operand among the task's spans."""
        return list(self.staged).index(number)

    def reached(self, number: int) -> str:
        """An operand where it lies."""
        operand = self.kernel.operands[number]
        target = operand.name == self.nest.target
        if number in self.use.flagged:
            return f"{'announced' if target else 'awaited'}(launch, task, {number}, scratch)"
        return f"operand<{'' if target else 'const '}{CUDA.storage[operand.dtype]}>(launch, task, {number})"

    def reserve(
        self, name: str, count: int, shape: tuple[Expr, ...], strides: tuple[Expr, ...], dtype: DType = DType.F32
    ) -> str:
        """Memory for ``count`` elements, as operand ``name`` for generated code; returns the C++ name."""
        pointer = self.writer.fresh(identifier(name.lstrip("@")), numbered=False)
        home, storage = self._take(count * dtype.itemsize), CUDA.storage[dtype]
        self.declarations.append((pointer, f"{storage}* const {pointer} = reinterpret_cast<{storage}*>({home});"))
        self.writer.memory.add(Place(Operand(name, dtype, shape, strides), pointer))
        return pointer

    def reserve_halves(
        self, name: str, count: int, shape: tuple[Expr, ...], strides: tuple[Expr, ...], dtype: DType
    ) -> str:
        """Memory for ``count`` values that are kept as two of a 16-bit type (inputs.cuh: Halves)."""
        home, storage = self._take(2 * count * dtype.itemsize), CUDA.storage[dtype]
        made = f"Halves<{storage}>", f"{{reinterpret_cast<{storage}*>({home}), {count}}}"
        return self._declare_inputs(made, Operand(name, DType.F32, shape, strides))

    def reserve_ordered(
        self, name: str, count: int, shape: tuple[Expr, ...], strides: tuple[Expr, ...], dtype: DType
    ) -> str:
        """Memory for ``count`` values in the order of tensor cores (inputs.cuh: Ordered)."""
        home, storage = self._take(count * dtype.itemsize), CUDA.storage[dtype]
        made = f"Ordered<{storage}>", f"{{reinterpret_cast<{storage}*>({home})}}"
        return self._declare_inputs(made, Operand(name, dtype, shape, strides))

    def _declare_inputs(self, made: tuple[str, str], operand: Operand) -> str:
        pointer = self.writer.fresh(identifier(operand.name.lstrip("@")), numbered=False)
        self.declarations.append((pointer, f"const {made[0]} {pointer} = {made[1]};"))
        self.writer.memory.add(Place(operand, pointer))
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
        start = f"__device__ __forceinline__ void run_{self.number}("
        head = f"{start}{common},\n{' ' * len(start)}const Scratch& scratch, Ring& stages, Slots& fetched)"
        lines = list(self.body.lines(1))
        before, late = self._before("\n".join(lines))
        if self.late:
            at = next(n for n, line in enumerate(lines) if line.strip() == LATE)
            there = [f"{lines[at][: -len(LATE)]}{line}" for line in late]
            if self._reads_early(lines):  # what a query needs, but no element of it alone, is computed before ``fill``
                before, there = before + late, []
            lines[at : at + 1] = there
        else:
            before += late
        run = self.function(head, [*(f"  {line}" for line in before), *lines])
        head = f"__device__ __forceinline__ void stream_{self.number}({common}, Source& producer)"
        stream = self.function(head, self.stream) if self.stream else ""
        head = f"__device__ __forceinline__ void fetch_{self.number}({common}, Fetch& fetcher)"
        fetch = self.function(head, self.fetch) if self.fetch else ""
        return Code(run, stream, fetch, self.shared, self.scratch, self.slot, self.parts)

    def _before(self, body: str) -> tuple[list[str], list[str]]:
        """What a task does before its body: asks for what is there; then copies what it looks for, waits for its
        events, and copies the rest.
        """
        used = [
            i for i in self.staged
            if i in self.direct or re.search(rf"\b{re.escape(self.writer.memory.pointer_of(i))}\b", body)
        ]  # fmt: skip
        self.house([i for i in used if i not in self.direct and i not in self.homes])
        early = [i for i in used if i in self.use.settled - self.use.flagged and i not in self.direct]
        first = [self._stage("stage_constant", i) for i in early]
        first += ["staged();"] if first and self.late else []
        lines = [self._stage("stage", i) for i in used if i in self.use.flagged]
        if self.use.waits and not self.defers:
            lines.append("if (!scratch.events_reached()) return;")
        lines += [self._stage("stage", i) for i in used if i not in early and i not in self.use.flagged]
        lines += ["staged();"] if used else []
        lines += [] if self.defers else ["scratch.begin();"]
        return first, lines

    def _reads_early(self, lines: list[str]) -> bool:
        """Whether code before attention, and outside the functions that it calls, reads what is staged late."""
        late = {self.writer.memory.pointer_of(i) for i in self.staged if i in self.use.flagged}
        end = ""  # of the function that is being skipped
        for line in lines:
            if "attend<" in line:
                return False
            if end:
                end = "" if line == end else end
            elif found := re.match(r"( *)const auto (?:fill|score)\w* = \[&\]", line):
                end = f"{found[1]}}};"
            elif (moved := re.match(r" *const auto (\w+) = (\w+) \+", line)) and moved[2] in late:
                late.add(moved[1])  # an address
            elif late & set(re.findall(r"\w+", line)):
                return True
        return False

    def house(self, operands: list[int]) -> None:
        """Finds memory for operands that are staged."""
        for i in operands:
            operand = self.kernel.operands[i]
            size = self.staged[i].most * operand.dtype.itemsize
            self.kept -= _whole(size)
            home = self._take(size)
            assert home.startswith("scratch.shared"), "room was kept for it"
            self.homes[i] = f"reinterpret_cast<{CUDA.storage[operand.dtype]}*>({home})"
            token = _home(CUDA.storage[operand.dtype], i)
            self.declarations = [(n, text.replace(token, self.homes[i])) for n, text in self.declarations]

    def _stage(self, call: str, number: int) -> str:
        slot, span = 2 * self.slot_of(number), self.staged[number]
        if number in self.direct:
            return self.direct[number]
        to = self.homes[number]
        count = str(span.most) if span.even else f"task.spans[{slot + 1}]"
        given = f"{to}, {self.reached(number)} + task.spans[{slot}], {count}"
        if number in self.use.flagged:
            call, given = f"{call}<{span.most}>", f"{given}, {'true' if span.aligned else 'false'}"
        return f"{call}({given});"

    def write_epilogue(self, block: Block, steps: list[Steps]) -> None:
        """The nest's own loops and store."""
        nest = self.nest
        body = self._computed_first(block, steps) if nest.walked else nest.body
        write_shared_store(self.writer, block, steps, nest.target, nest.index, body, walked=nest.walked)

    def _computed_first(self, block: Block, steps: list[Steps]) -> Expr:
        """What a walk stores. One thread takes the steps that may meet, and would wait for what each of them loads; so
        all values are computed before, by all threads, into shared memory, where it holds them.
        """
        nest, count = self.nest, most(self.axes)
        old = any(e.attr == nest.target for e in loads(nest.body))
        if self.nest.contractions or old or not nest.body.dtype.is_float or nest.body.dtype is DType.F64:
            return nest.body
        if 4 * count > WALKED_MOST:
            return nest.body
        stored = build.const(True, DType.BOOL)  # a negative index stores nothing, and then nothing is computed
        for i in nest.index:
            if loads(i):
                stored = build.logical_and(stored, build.le(build.const(0), i))
        name, place = "@walked", offset(self.axes)
        self.reserve(name, count, (build.const(count),), (build.const(1),))
        value = build.cast(nest.body, DType.F32)
        value = build.where(stored, value, build.const(0.0, DType.F32))
        home = Block(block)
        write_shared_store(self.writer, home, steps, name, (place,), value, trusted=True)
        block.items += [home, SYNC]
        return build.cast(build.load(name, (place,), DType.F32), nest.body.dtype)


def _whole(size: int) -> int:
    """``size`` rounded up to what memory is given out in."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _home(storage: str, number: int) -> str:
    """What stands for the place of a staged operand until it has one."""
    return f"reinterpret_cast<{storage}*>(@{number})"
