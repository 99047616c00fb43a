"""A program in the memory of one GPU: its code, tables, events, workspace, and the parameters of its launches."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from onelaunch.errors import LaunchError
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.targets.cuda import device
from onelaunch.targets.cuda.dataflow import Dataflow
from onelaunch.targets.cuda.emit import ENTRY
from onelaunch.targets.cuda.emit import STAGE_BYTES
from onelaunch.targets.cuda.emit import Shape
from onelaunch.targets.cuda.records import Control
from onelaunch.targets.cuda.records import Report
from onelaunch.targets.cuda.records import Tables
from onelaunch.targets.cuda.records import launch_type

THREADS = 352  # of a block (engine.cuh: kBlock)


class Loaded:
    """See the module. ``parameters``: of the next launch (task.cuh: LaunchOf)."""

    def __init__(self, program: Program, shape: Shape, flow: Dataflow, cubin: bytes, index: int) -> None:
        if (reason := device.reason_against(index)) is not None:
            raise LaunchError(f"{program.name} cannot run on cuda:{index}: {reason}")
        if torch.cuda.is_current_stream_capturing():
            raise LaunchError(f"{program.name} is launched for the first time inside a graph capture; launch it before")
        self.index, self.name = index, program.name
        self.workers = len(program.queues)
        self.shared = shape.stages * STAGE_BYTES + shape.shared + shape.block_bytes
        self._totals = [e.total for e in program.events]
        with torch.cuda.device(index):
            self._code = _Code(cubin, index, self.shared)
            self._refuse_too_many()
            self._allocate(program, shape, flow)
        self._stream: int | None = None
        self._stamps: torch.Tensor | None = None
        self._tasks = max(len(program.tasks), 1)
        self._report = Report.from_address(self._host.data_ptr())

    def _allocate(self, program: Program, shape: Shape, flow: Dataflow) -> None:
        words, starts = Tables(program, shape, flow).packed()
        place = torch.device("cuda", self.index)
        self._tables = torch.from_numpy(words.view("int32")).to(place)
        self._events = torch.zeros(max(len(program.events), 1), dtype=torch.int32, device=place)
        self._control = torch.zeros(ctypes.sizeof(Control) // 4, dtype=torch.int32, device=place)
        self._workspace = torch.zeros(max(program.workspace, 1), dtype=torch.uint8, device=place)
        self._flagged = torch.zeros(max(flow.words, 1), dtype=torch.int32, device=place)
        self._scratch = torch.zeros(max(shape.scratch * self.workers, 1), dtype=torch.uint8, device=place)
        self._host = torch.zeros(ctypes.sizeof(Report) // 4, dtype=torch.int32, device="cpu", pin_memory=True)
        torch.cuda.current_stream(self.index).synchronize()  # whatever stream comes first finds all of it
        self.parameters: Any = launch_type(shape)()
        for name, start in starts.items():
            setattr(self.parameters, name, self._tables.data_ptr() + start)
        self.parameters.events = self._events.data_ptr()
        self.parameters.control = self._control.data_ptr()
        self.parameters.report = self._host.data_ptr()
        self.parameters.scratch = self._scratch.data_ptr()
        self.parameters.n_events = len(program.events)
        self.parameters.flagged, self.parameters.n_flagged = self._flagged.data_ptr(), flow.words
        for i, b in enumerate(program.buffers):
            if b.role is Role.WORKSPACE:
                self.parameters.buffers[i] = self._workspace.data_ptr() + b.offset
        for i, start in flow.places.items():
            self.parameters.buffers[i] = self._flagged.data_ptr() + 4 * start
        self._arguments = (ctypes.c_void_p * 1)(ctypes.addressof(self.parameters))

    def _refuse_too_many(self) -> None:
        """Workers wait for each other, so all of them must be resident at once."""
        resident = self._code.resident(THREADS, self.shared) * device.processors(self.index)
        if resident < self.workers:
            raise LaunchError(
                f"{self.name} has {self.workers} workers, of which cuda:{self.index} can hold {resident} at once; "
                f"compile with workers={resident} or fewer"
            )

    def launch(self) -> None:
        """Enqueue one launch with ``parameters`` on torch's current stream of the device."""
        with torch.cuda.device(self.index):
            stream = torch.cuda.current_stream(self.index)
            if stream.cuda_stream != self._stream:
                self._move(stream)
            self._code.launch(self.workers, THREADS, self.shared, stream.cuda_stream, ctypes.addressof(self._arguments))

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
            self.parameters.stamps = self._stamps.data_ptr()
        return self._stamps

    def set_counters(self, launches: int) -> None:
        """Make events what they are after so many launches."""
        self.synchronize()
        values = [_signed(launches * total) for total in self._totals]
        self._events[: len(values)] = torch.tensor(values, dtype=torch.int32, device="cpu")
        self._control[0] = _signed(launches)
        self._flagged.fill_(launches % 2)  # what the launch before has left
        self.synchronize()


class _Code:
    """The kernel in one context, through the driver."""

    def __init__(self, cubin: bytes, index: int, shared: int) -> None:
        from cuda.bindings import driver
        from cuda.core import ObjectCode

        torch.cuda.current_stream(index)  # torch makes the context
        self._driver = driver
        self._object = ObjectCode.from_cubin(cubin)
        kernel = self._object.get_kernel(ENTRY)
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._call(driver.cuKernelSetAttribute, attribute, shared, kernel.handle, driver.CUdevice(index))
        self._function = self._call(driver.cuKernelGetFunction, kernel.handle)

    def resident(self, threads: int, shared: int) -> int:
        """Blocks that a multiprocessor holds at once."""
        found: int = self._call(
            self._driver.cuOccupancyMaxActiveBlocksPerMultiprocessor, self._function, threads, shared
        )
        return found

    def launch(self, blocks: int, threads: int, shared: int, stream: int, arguments: int) -> None:
        """A cooperative launch."""
        self._call(
            self._driver.cuLaunchCooperativeKernel, self._function, blocks, 1, 1, threads, 1, 1, shared,
            self._driver.CUstream(stream), arguments,
        )  # fmt: skip

    def _call(self, function: Any, *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if int(status) != 0:
            raise LaunchError(f"{function.__name__} failed: {status.name}")
        return results[0] if results else None


def _signed(value: int) -> int:
    """``value`` modulo 2^32 as torch's int32 holds it."""
    value %= 2**32
    return value - 2**32 if value >= 2**31 else value
