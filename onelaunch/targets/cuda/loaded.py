"""A program in the memory of one GPU: its code, tables, events, workspace, and the parameters of its launches."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from onelaunch.errors import LaunchError
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.cuda import device
from onelaunch.targets.cuda.binary import Binary
from onelaunch.targets.cuda.emit import ENTRY
from onelaunch.targets.cuda.image import Image
from onelaunch.targets.cuda.records import Control
from onelaunch.targets.cuda.records import Report
from onelaunch.targets.cuda.records import launch_type

THREADS = 384  # of a block (engine.cuh: kBlock)


class Loaded:
    """See the module. The program is one cooperative launch."""

    def __init__(self, program: Program, image: Image, cubin: bytes, index: int) -> None:
        if (reason := device.reason_against(index)) is not None:
            raise LaunchError(f"{program.name} cannot run on cuda:{index}: {reason}")
        if torch.cuda.is_current_stream_capturing():
            raise LaunchError(f"{program.name} is launched for the first time inside a graph capture; launch it before")
        self.index, self.name = index, program.name
        self._totals = [e.total for e in program.events]
        with torch.cuda.device(index):
            self._binary = Binary(cubin, index)
            self._load(program, image)
        self._stream: int | None = None
        self._stamps: torch.Tensor | None = None
        self._tasks = max(len(program.tasks), 1)
        self._report = Report.from_address(self._host.data_ptr())

    def _load(self, program: Program, image: Image) -> None:
        """Finds the code and prepares what ``launch`` needs."""
        shape = image.shape
        self.workers = len(program.queues)
        shared = shape.shared_bytes
        self._function = self._binary.function(ENTRY, THREADS, shared)
        self._refuse_too_many()
        fixed, own = self._allocate(program, image, shape.scratch * self.workers)
        self._parameters: Any = launch_type(shape)()  # task.cuh: LaunchOf
        for name, value in fixed.items():
            setattr(self._parameters, name, value)
        for i, address in own.items():
            self._parameters.buffers[i] = address
        self._outer = [i for i in range(len(program.buffers)) if i not in own]
        self._arguments = (ctypes.c_void_p * 1)(ctypes.addressof(self._parameters))

    def _allocate(self, program: Program, image: Image, scratch: int) -> tuple[dict[str, int], dict[int, int]]:
        """What does not change from launch to launch: parameters by name, and the addresses of buffers of its own."""
        place = torch.device("cuda", self.index)
        self._tables = torch.from_numpy(image.tables.view("int32")).to(place)
        self._events = torch.zeros(max(len(program.events), 1), dtype=torch.int32, device=place)
        self._control = torch.zeros(ctypes.sizeof(Control) // 4, dtype=torch.int32, device=place)
        self._workspace = torch.zeros(max(program.workspace, 1), dtype=torch.uint8, device=place)
        self._flagged = torch.zeros(max(image.words, 1), dtype=torch.int32, device=place)
        self._scratch = torch.zeros(max(scratch, 1), dtype=torch.uint8, device=place)
        self._host = torch.zeros(ctypes.sizeof(Report) // 4, dtype=torch.int32, device="cpu", pin_memory=True)
        torch.cuda.current_stream(self.index).synchronize()  # whatever stream comes first finds all of it
        fixed = {name: self._tables.data_ptr() + start for name, start in image.starts.items()} | {
            "events": self._events.data_ptr(), "control": self._control.data_ptr(), "report": self._host.data_ptr(),
            "scratch": self._scratch.data_ptr(), "n_events": len(program.events),
            "flagged": self._flagged.data_ptr(), "n_flagged": image.words,
        }  # fmt: skip
        own = {
            i: self._workspace.data_ptr() + b.offset for i, b in enumerate(program.buffers) if b.role is Role.WORKSPACE
        }
        return fixed, own | {i: self._flagged.data_ptr() + 4 * start for i, start in image.places.items()}

    def _refuse_too_many(self) -> None:
        """Workers wait for each other, so all of them must be resident at once."""
        resident = self._function.resident() * device.processors(self.index)
        if resident < self.workers:
            raise LaunchError(
                f"{self.name} has {self.workers} workers, of which cuda:{self.index} can hold {resident} at once; "
                f"compile with workers={resident} or fewer"
            )

    def give(self, pointers: Sequence[int], symbols: Sequence[int], patience: int) -> None:
        """What the next launch works on: addresses of all buffers, values of all symbols; how long a wait may take."""
        parameters = self._parameters
        buffers = parameters.buffers
        for i in self._outer:
            buffers[i] = pointers[i]
        parameters.symbols[: len(symbols)] = list(symbols)
        parameters.patience = patience

    def launch(self) -> None:
        """Enqueue one launch on torch's current stream of the device."""
        with torch.cuda.device(self.index):
            stream = torch.cuda.current_stream(self.index)
            if stream.cuda_stream != self._stream:
                self._move(stream)
            self._enqueue(stream.cuda_stream)

    def _enqueue(self, stream: int) -> None:
        self._function.launch_together(self.workers, stream, ctypes.addressof(self._arguments))

    def _move(self, stream: torch.cuda.Stream) -> None:
        """From now on launches go to ``stream``, after those on the stream before."""
        if not torch.cuda.is_current_stream_capturing():
            if self._stream is not None:
                stream.wait_stream(torch.cuda.ExternalStream(self._stream, device=self.index))
            for memory in (self._tables, self._events, self._control, self._workspace, self._flagged, self._scratch):
                memory.record_stream(stream)
        self._stream = stream.cuda_stream

    def synchronize(self) -> None:
        """Wait for the launches so far."""
        torch.cuda.synchronize(self.index)

    def take_report(self) -> Report | None:
        """Why an earlier launch ended early, once."""
        if self._report.status == 0:
            return None
        torch.cuda.synchronize(self.index)  # launches that follow it may still be on their way
        taken = Report.from_buffer_copy(self._report)
        self._report.status = 0
        return taken

    def trace(self) -> torch.Tensor:
        """Make every launch write its tasks' times (task.cuh: Stamp) into the tensor returned."""
        if self._stamps is None:
            self._stamps = torch.zeros(self._tasks, 4, dtype=torch.int64, device=torch.device("cuda", self.index))
            self._stamp(self._stamps.data_ptr())
        return self._stamps

    def _stamp(self, address: int) -> None:
        self._parameters.stamps = address

    def set_counters(self, launches: int) -> None:
        """Make events what they are after so many launches."""
        self.synchronize()
        values = [_signed(launches * total) for total in self._totals]
        self._events[: len(values)] = torch.tensor(values, dtype=torch.int32, device="cpu")
        self._control[0] = _signed(launches)
        self._flagged.fill_(launches % 2)  # what the launch before has left
        self.synchronize()


def _signed(value: int) -> int:
    """``value`` modulo 2^32 as torch's int32 holds it."""
    value %= 2**32
    return value - 2**32 if value >= 2**31 else value
