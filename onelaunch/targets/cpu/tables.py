"""The runtime's tables (``include/onelaunch/task.h``): a program as flat arrays, with the layout that C++ expects."""

from __future__ import annotations

import array
import ctypes
from collections.abc import Sequence

from onelaunch.program.program import Program

u32, i32, i64, pointer = ctypes.c_uint32, ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class Fault(ctypes.Structure):
    """An index that data picked outside a buffer; ``code`` is 1 + the dimension, 0: none."""

    _fields_ = (("code", u32), ("operand", u32), ("value", i64))


class LaunchRecord(ctypes.Structure):
    """task.h's LaunchError: why a launch ended early."""

    _fields_ = (
        ("status", i32), ("worker", u32), ("task", u32), ("event", u32), ("seen", u32), ("awaited", u32),
        ("fault", Fault),
    )  # fmt: skip


class Stamp(ctypes.Structure):
    """When a task's worker reached it, when its events were reached, when it was done: nanoseconds."""

    _fields_ = (("arrived", i64), ("began", i64), ("ended", i64))


_TABLES = ("kernels", "tasks", "operands", "tiles", "waits", "signals", "totals", "queues", "queue_ends")
_COUNTS = (
    "n_kernels", "n_tasks", "n_operands", "n_tiles", "n_waits", "n_signals", "n_events", "n_queued", "n_workers",
    "n_buffers",
)  # fmt: skip


class Tables(ctypes.Structure):
    """Everything that the runtime's ``create`` needs; it copies what these point to."""

    _fields_ = (*((n, pointer) for n in _TABLES), *((n, u32) for n in _COUNTS), ("scratch_bytes", i64))


SIZES = {
    "Task": 8 * 4, "Wait": 2 * 4, "Kernel": 2 * 8, "Tables": ctypes.sizeof(Tables),
    "LaunchError": ctypes.sizeof(LaunchRecord), "Stamp": ctypes.sizeof(Stamp),
}  # fmt: skip


class Flat:
    """A program's tables, alive as long as this object is."""

    def __init__(self, program: Program, kernels: Sequence[tuple[int, int]], scratch: int) -> None:
        words = {n: array.array("I") for n in _TABLES if n not in ("kernels", "tiles")}
        tiles = array.array("q")
        for task in program.tasks:
            heads = (task.kernel, len(words["operands"]), len(tiles), len(words["waits"]) // 2, len(task.waits))
            words["tasks"].extend((*heads, len(words["signals"]), len(task.signals), task.op))
            words["operands"].extend(task.operands)
            words["waits"].extend(w for pair in task.waits for w in pair)
            words["signals"].extend(task.signals)
            tiles.extend(bound for span in task.tile for bound in span)
        words["totals"].extend(e.total for e in program.events)
        for queue in program.queues:
            words["queues"].extend(queue)
            words["queue_ends"].append(len(words["queues"]))
        functions = array.array("Q", [address for pair in kernels for address in pair])
        self._kept = {**words, "tiles": tiles, "kernels": functions}
        counts = (
            len(kernels), len(program.tasks), len(words["operands"]), len(tiles), len(words["waits"]) // 2,
            len(words["signals"]), len(program.events), len(words["queues"]), len(program.queues), len(program.buffers),
        )  # fmt: skip
        addresses = (self._kept[n].buffer_info()[0] for n in _TABLES)
        self.tables = Tables(*addresses, *counts, scratch)
