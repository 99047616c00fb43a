"""A program ready to run on GPUs.

A launch goes to torch's current stream of the device that holds the arguments, and returns when it is enqueued. All
that varies (addresses, symbols) is the launch's parameters, which the driver copies at the launch and a CUDA graph
keeps with it; all else lies in device memory and does not change. So a graph replays with what its tensors hold then.
It must not outlive the executable.

Launches of one program must not overlap. Where the stream is another one than last time, the new one waits for the old
one; replays of graphs on several streams are the caller's to order.

A launch that ended early is reported by ``synchronize``, or by the next launch, which then does not happen; the one
after that starts from a clean slate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Sequence

import torch

from onelaunch.errors import LaunchError
from onelaunch.program.program import Program
from onelaunch.targets.cuda.loaded import Loaded
from onelaunch.targets.cuda.records import Report

PATIENCE = 60.0  # seconds that a wait may take
OK, DEADLINE, FAULT = 0, 1, 2


class CudaExecutable:
    """See ``onelaunch.targets.base.Executable``. ``device``: where the next launch goes; None: torch's current one."""

    device_type = "cuda"

    def __init__(self, program: Program, loader: Callable[[int], Loaded]) -> None:
        """``loader`` brings the program into the memory of a device, given its index."""
        self.program = program
        self._loader = loader
        self.device: int | None = None
        self._loaded: dict[int, Loaded] = {}
        self._patience = int(PATIENCE * 1e9)
        self._lock = threading.Lock()

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """Enqueue the program once; see ``onelaunch.targets.base.Executable``. Raises what the launch before met."""
        with self._lock:
            loaded = self.load()
            self._raise_pending(loaded)
            loaded.give(pointers, symbols, self._patience)
            loaded.launch()

    def load(self) -> Loaded:
        """The program in the memory of the device; raises LaunchError where it cannot run there."""
        index = torch.cuda.current_device() if self.device is None else self.device
        found = self._loaded.get(index)
        if found is None:
            found = self._loaded[index] = self._loader(index)
        return found

    def synchronize(self) -> None:
        """Wait for all launches so far. Raises LaunchError or IndexError where one of them ended early."""
        for loaded in self._loaded.values():
            loaded.synchronize()
            self._raise_pending(loaded)

    def check(self) -> None:
        """Raise what a launch that ended early has met by now, without waiting: replays of a graph tell nobody else."""
        for loaded in self._loaded.values():
            self._raise_pending(loaded)

    def set_deadline(self, seconds: float) -> None:
        """How long a wait may take before the launch is aborted."""
        self._patience = int(seconds * 1e9)

    def set_counters(self, launches: int) -> None:
        """Make events what they are after so many launches: for tests of wrap-around."""
        self.load().set_counters(launches)

    def trace(self) -> torch.Tensor:
        """From now on, every launch writes four times for each task, in nanoseconds: when its worker reached it, when
        its events had been reached, when it was done, when it had signalled. Returns the [tasks, 4] tensor.
        """
        return self.load().trace()

    def times(self) -> list[tuple[int, int, int]]:
        """(arrived, began, ended) of every task of the last launch since ``trace``, for which this waits; they are
        forgotten then. A task begins when it has all it waits for; its signal is told while the next one runs.
        """
        stamps = self.trace()
        self.synchronize()
        rows = stamps[: len(self.program.tasks)].tolist()
        stamps.zero_()
        return [(arrived, began, ended) for arrived, began, ended, _ in rows]

    def _raise_pending(self, loaded: Loaded) -> None:
        if (report := loaded.take_report()) is not None:
            raise self._error(report)

    def _error(self, report: Report) -> Exception:
        task = self.program.tasks[report.task]
        label = f"task {report.task} ({self.program.ops[task.op]})"
        if report.status == DEADLINE:
            return LaunchError(
                f"worker {report.worker}, {label}: event {report.event} stood at {report.seen} until the deadline, "
                f"awaited {report.awaited}"
            )
        if report.status != FAULT:
            return LaunchError(f"the launch reported status {report.status}")
        fault = report.fault
        buffer = self.program.buffers[task.operands[fault.operand]]
        return IndexError(
            f"index {fault.value} is out of bounds for dimension {fault.code - 1} of {buffer.name} with size "
            f"{fault.size}, in {label}"
        )
