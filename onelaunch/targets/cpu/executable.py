"""A program ready to run on this CPU."""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from onelaunch.errors import CompilerError
from onelaunch.errors import LaunchError
from onelaunch.graph.build import const
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import rewrite
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.cpu import library
from onelaunch.targets.cpu.tables import Flat
from onelaunch.targets.cpu.tables import LaunchRecord
from onelaunch.targets.cpu.tables import Stamp

OK, DEADLINE, FAULT, THREADS, SHUTDOWN = 0, 1, 2, 3, 4


class _Call(threading.local):
    """What one thread hands to the runtime: threads may launch one program at once, and then take turns."""

    def __init__(self, buffers: int, symbols: int, fixed: Sequence[tuple[int, int]]) -> None:
        self.buffers = (ctypes.c_void_p * max(buffers, 1))()
        self.symbols = (ctypes.c_int64 * max(symbols, 1))()
        self.record = LaunchRecord()
        self.pointers: list[int] = []
        for i, address in fixed:
            self.buffers[i] = address


class CpuExecutable:
    """See ``onelaunch.targets.base.Executable``. Launches of one process take turns; each returns when it is done."""

    def __init__(self, program: Program, kernels: list[ctypes.CDLL], scratch: int) -> None:
        self.program = program
        self._kernels = kernels
        self._runtime = library.runtime()
        functions = [
            (library.address(kernels, f"onelaunch_run_{i}"), library.address(kernels, f"onelaunch_prefetch_{i}"))
            for i in range(len(program.kernels))
        ]
        flat = Flat(program, functions, scratch)
        self._handle = self._runtime.onelaunch_create(ctypes.byref(flat.tables))
        if not self._handle:
            raise CompilerError(f"the runtime refused the program: {self._runtime.onelaunch_last_error().decode()}")
        weakref.finalize(self, self._runtime.onelaunch_destroy, self._handle)
        self._memory = _allocate(program.workspace)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._inner = [(i, start + b.offset) for i, b in enumerate(program.buffers) if b.role is Role.WORKSPACE]
        self._outer = [i for i, b in enumerate(program.buffers) if b.role is not Role.WORKSPACE]
        self._call = _Call(len(program.buffers), len(program.symbols), self._inner)
        # A caller that keeps its addresses here launches without a copy.
        self.addresses: Any = _Call(len(program.buffers), 0, self._inner).buffers
        self._trace: ctypes.Array[Stamp] | None = None

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """Run the program once; see ``onelaunch.targets.base.Executable``."""
        call = self._call
        table: Any = call.buffers
        if pointers is self.addresses:
            table = self.addresses
        elif pointers != call.pointers:
            for i in self._outer:
                table[i] = pointers[i]
            call.pointers = list(pointers)
        call.symbols[: len(symbols)] = list(symbols)
        if self._runtime.onelaunch_launch(self._handle, table, call.symbols, call.record) != OK:
            raise self._error(call.record, symbols)

    def set_deadline(self, seconds: float) -> None:
        """How long a launch may take before it is aborted."""
        self._runtime.onelaunch_set_deadline(self._handle, int(seconds * 1e9))

    def set_counters(self, launches: int) -> None:
        """Make events what they are after so many launches: for tests of wrap-around."""
        self._runtime.onelaunch_set_counters(self._handle, launches % 2**32)

    def trace(self) -> ctypes.Array[Stamp]:
        """From now on, every launch writes when each task arrived, began and ended: one stamp a task."""
        if self._trace is None:
            self._trace = (Stamp * max(len(self.program.tasks), 1))()
            self._runtime.onelaunch_set_trace(self._handle, ctypes.addressof(self._trace))
        return self._trace

    def times(self) -> list[tuple[int, int, int]]:
        """(arrived, began, ended) of every task of the last launch since ``trace``; they are forgotten then."""
        stamps = self.trace()
        found = [(s.arrived, s.began, s.ended) for s in stamps[: len(self.program.tasks)]]
        ctypes.memset(stamps, 0, ctypes.sizeof(stamps))
        return found

    def _error(self, record: LaunchRecord, symbols: Sequence[int]) -> Exception:
        program = self.program
        if record.status == THREADS:
            return LaunchError(f"the system refused one of {len(program.queues)} threads; use fewer workers")
        if record.status == SHUTDOWN:
            return LaunchError("launched while the process is exiting; launch before that")
        if record.status not in (DEADLINE, FAULT):
            return LaunchError(f"the runtime returned status {record.status}")
        task = program.tasks[record.task]
        label = f"task {record.task} ({program.ops[task.op]})"
        if record.status == DEADLINE:
            return LaunchError(
                f"worker {record.worker}, {label}: event {record.event} stood at {record.seen} until the deadline, "
                f"awaited {record.awaited}"
            )
        fault = record.fault
        buffer = program.buffers[task.operands[fault.operand]]
        dimension = fault.code - 1
        values = {s.name: v for s, v in zip(program.symbols, symbols, strict=True)}
        size = evaluate(buffer.shape[dimension], values)
        return IndexError(
            f"index {fault.value} is out of bounds for dimension {dimension} of {buffer.name} with size {size}, "
            f"in {label}"
        )


def evaluate(extent: Expr, symbols: dict[str, int]) -> int:
    """The value of an extent for given symbols."""
    found = rewrite(extent, lambda e: const(symbols[e.attr[0]]) if e.op is Op.SYM else None)
    return int(found.value)


def _allocate(size: int) -> mmap.mmap:
    """Zeroed memory, page-aligned, private to this process and (after a fork) to each child."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= 1 << 21 and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
