"""What the device reads of a program: records of tasks and their tables, with the layout of ``task.cuh``."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from onelaunch.program.program import Program
from onelaunch.targets.cuda.dataflow import Dataflow
from onelaunch.targets.cuda.emit import Shape

INLINE = 4  # waits, and signals, that a record holds itself (task.cuh: kInline)

Words = npt.NDArray[np.uint32]
u32, i64, u64, pointer = ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64


class Fault(ctypes.Structure):
    """An index that data picked outside a buffer; ``code`` is 1 + the dimension, 0: none."""

    _fields_ = (("code", u32), ("operand", u32), ("value", i64), ("size", i64))


class Report(ctypes.Structure):
    """Why a launch ended early."""

    _fields_ = (
        ("status", u32), ("worker", u32), ("task", u32), ("event", u32), ("seen", u32), ("awaited", u32),
        ("fault", Fault),
    )  # fmt: skip


class Control(ctypes.Structure):
    """What the workers of a program share."""

    _fields_ = (("epoch", u32), ("done", u32), ("abort", u32), ("unused", u32), ("report", Report))


assert ctypes.sizeof(Report) == 48 and ctypes.sizeof(Control) == 64, "task.cuh asserts the same sizes"

TABLES = ("records", "queues", "waits", "signals")
_POINTERS = (*TABLES, "events", "control", "report", "stamps", "scratch")


def launch_type(shape: Shape) -> type[ctypes.Structure]:
    """The parameters of a launch (task.cuh: LaunchOf)."""
    fields = (
        *((n, pointer) for n in _POINTERS), ("patience", i64), ("n_events", u32), ("last", u32),
        ("flagged", pointer), ("n_flagged", u64),
        ("symbols", i64 * shape.symbols), ("buffers", pointer * shape.buffers),
    )  # fmt: skip
    made = type("Launch", (ctypes.Structure,), {"_fields_": fields})
    assert ctypes.sizeof(made) == shape.launch_bytes, (ctypes.sizeof(made), shape.launch_bytes)
    return made


class Tables:
    """A program's tables as arrays of words, queue after queue."""

    def __init__(self, program: Program, shape: Shape, flow: Dataflow) -> None:
        totals = [e.total for e in program.events]
        waits: list[int] = []
        signals: list[int] = []
        records: list[Words] = []
        ends = [0]
        for queue in program.queues:
            for number in queue:
                task = program.tasks[number]
                own = [(e, v, totals[e]) for e, v in task.waits]
                head = [
                    task.kernel, number, len(own), len(task.signals), len(waits) // 3, len(signals),
                    *_filled((w for wait in own[:INLINE] for w in wait), 3 * INLINE),
                    *_filled(task.signals[:INLINE], INLINE),
                    *_filled(task.operands, shape.operands),
                    *_filled((bound for span in task.tile for bound in span), 2 * shape.vars),
                    *_filled((n for span in flow.spans[number] for n in span), 2 * shape.spans),
                ]  # fmt: skip
                waits.extend(w for wait in own[INLINE:] for w in wait)
                signals.extend(task.signals[INLINE:])
                records.append(_words(_filled(head, shape.record_words)))
            ends.append(len(records))
        self.records = np.concatenate(records) if records else _words([])
        self.queues, self.waits, self.signals = _words(ends), _words(waits), _words(signals)
        self.totals = _words(totals)

    def packed(self) -> tuple[Words, dict[str, int]]:
        """All tables in one array, and where each begins, in bytes (a multiple of 256)."""
        parts: list[Words] = []
        starts: dict[str, int] = {}
        at = 0
        for name in TABLES:
            table: Words = getattr(self, name)
            starts[name] = 4 * at
            size = -(-max(len(table), 1) // 64) * 64
            parts.append(np.concatenate([table, np.zeros(size - len(table), np.uint32)]))
            at += size
        return np.concatenate(parts), starts


def _filled(values: Iterable[int], count: int) -> list[int]:
    found = list(values)
    assert len(found) <= count, f"{len(found)} words, room for {count}"
    return found + [0] * (count - len(found))


def _words(values: list[int]) -> Words:
    return np.array(values, dtype=np.uint32)
