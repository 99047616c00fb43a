"""The program: everything one launch needs, as plain data.

A program is made for one target machine and one bucket of run-time sizes. Targets, the check and the text form read
nothing else. Extents and strides are expressions over the program's symbols; regions are stated at the symbols' maxima
and are cut to a buffer's run-time extents, exactly as the kernels' loops are.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.index import bounds
from onelaunch.graph.nest import Nest

VERSION = 1


class Role(enum.StrEnum):
    """Where a buffer's memory comes from and who may change it."""

    WEIGHT = "weight"  # argument, constant between launches: streamed without waiting
    INPUT = "input"  # argument, read only, may differ at every call
    STATE = "state"  # argument, written in place (KV cache, counters)
    OUTPUT = "output"  # allocated for the call, returned to the caller
    WORKSPACE = "workspace"  # part of the program's own memory, at ``offset``

    __hash__ = str.__hash__


class Scope(enum.StrEnum):
    """Which observers an event's release and acquire must reach."""

    DEVICE = "device"  # workers of one launch on one device
    SYSTEM = "system"  # several devices, or the host

    __hash__ = str.__hash__


@dataclasses.dataclass(frozen=True, slots=True)
class Symbol:
    """An integer read at every launch, minimum <= value <= maximum; a launch outside that is refused."""

    name: str
    minimum: int
    maximum: int


@dataclasses.dataclass(frozen=True, slots=True)
class Buffer:
    """Memory with a shape. ``argument`` numbers the call's arguments (or results, for outputs)."""

    name: str
    dtype: DType
    shape: tuple[Expr, ...]
    strides: tuple[Expr, ...]  # in elements
    role: Role
    argument: int = -1
    offset: int = 0  # bytes from the start of the workspace

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape at the symbols' maxima."""
        return tuple(maximum(e) for e in self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes from the first to the last element, at the symbols' maxima."""
        if 0 in self.extents:
            return 0
        return self.dtype.itemsize * (
            1 + sum((n - 1) * maximum(s) for n, s in zip(self.extents, self.strides, strict=True))
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Operand:
    """What a kernel knows of a buffer it is given: the same for every task that runs the kernel."""

    name: str
    dtype: DType
    shape: tuple[Expr, ...]
    strides: tuple[Expr, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """One instance of device code: a nest over operand names. The nest's target is one of the operands."""

    operands: tuple[Operand, ...]
    nest: Nest


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Indices low..high-1 of one dimension. ``via`` states that they are picked by data: by elements ``via[1]`` to
    ``via[2]`` - 1 of (flattened) buffer ``via[0]``, which the axiom says are distinct.
    """

    low: int
    high: int
    via: tuple[int, int, int] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A box of a buffer: one span a dimension."""

    buffer: int
    box: tuple[Span, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A monotonic counter: ``total`` signals a launch, so launch e awaits e * total + value, compared modulo 2^32."""

    total: int
    scope: Scope = Scope.DEVICE
    home: int = 0  # device whose memory holds it


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One tile of one op, run by one worker: wait, compute, signal."""

    op: int  # index into Program.ops
    kernel: int
    operands: tuple[int, ...]  # buffers, one for each of the kernel's operands
    tile: tuple[tuple[int, int], ...]  # low, high of each variable of the kernel's nest, at the symbols' maxima
    waits: tuple[tuple[int, int], ...]  # (event, value): start when the event has reached the value
    signals: tuple[int, ...]  # events, each incremented once at the end
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Axiom:
    """An assumption on data that the check relies on and the reference target tests on live data."""

    kind: str  # "distinct": no two non-negative elements of the buffer are equal
    buffer: int


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A schedule of tasks on workers, with all it touches."""

    name: str
    machine: str
    symbols: tuple[Symbol, ...]
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    events: tuple[Event, ...]
    ops: tuple[str, ...]  # labels ("linear layers.0.up_proj"); run one after the other, they are what it means
    tasks: Sequence[Task]
    queues: tuple[tuple[int, ...], ...]  # task numbers in order, one queue a worker
    workspace: int  # bytes
    axioms: tuple[Axiom, ...] = ()

    def __str__(self) -> str:
        """Its text form, which can be read back."""
        from onelaunch.program.text import print_program

        return print_program(self).rstrip("\n")

    @property
    def weight_bytes(self) -> int:
        """Bytes of constant arguments that one launch streams."""
        return sum(b.nbytes for b in self.buffers if b.role is Role.WEIGHT)


def maximum(extent: Expr) -> int:
    """The largest value of an extent or stride."""
    found = bounds(extent)
    assert found is not None, f"extent {extent} has no known maximum"
    return found[1]


def contiguous(shape: Sequence[Expr]) -> tuple[Expr, ...]:
    """Row-major strides, in elements, of a buffer laid out at its symbols' maxima."""
    from onelaunch.graph.build import const

    strides: list[Expr] = []
    step = 1
    for extent in reversed(shape):
        strides.append(const(step))
        step *= maximum(extent)
    return tuple(reversed(strides))
