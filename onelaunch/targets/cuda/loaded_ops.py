"""A program in the memory of one GPU, to be run as a launch for each op (op.cuh)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from onelaunch.program.program import Program
from onelaunch.targets.cuda.emit import Shape
from onelaunch.targets.cuda.image import Image
from onelaunch.targets.cuda.loaded import Loaded
from onelaunch.targets.cuda.ops import THREADS
from onelaunch.targets.cuda.ops import OpLaunch
from onelaunch.targets.cuda.ops import OpSource
from onelaunch.targets.cuda.ops import entry
from onelaunch.targets.cuda.ops import launches_of
from onelaunch.targets.cuda.ops import overlaps
from onelaunch.targets.cuda.records import launch_type


class LoadedOps(Loaded):
    """See the module."""

    def __init__(self, program: Program, source: OpSource, image: Image, cubin: bytes, index: int) -> None:
        self._source = source
        super().__init__(program, image, cubin, index)

    def _load(self, program: Program, image: Image) -> None:
        source = self._source
        launches = launches_of(program)
        used = sorted({launch.kernel for launch in launches})
        functions = {n: self._binary.function(entry(n), THREADS, source.shared_of(n)) for n in used}
        blocks = max((len(launch.tasks) for launch in launches), default=1)
        shape = image.shape
        fixed, own = self._allocate(program, image, shape.scratch * blocks)
        self._parameters = Parameters(program, shape, launches, own, fixed | {"n_events": 0})
        self._launches = []
        for i, (launch, parameters) in enumerate(zip(launches, self._parameters.all, strict=True)):
            function = functions[launch.kernel]
            config = function.prepared(len(launch.tasks), overlaps(source, launches, i))
            arguments = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
            self._launches.append((function, config, arguments))

    def give(self, pointers: Sequence[int], symbols: Sequence[int], patience: int) -> None:
        """See ``Loaded``; nothing waits by the clock."""
        self._parameters.give(pointers, symbols)

    def _enqueue(self, stream: int) -> None:
        for function, config, arguments in self._launches:
            function.launch(config, stream, ctypes.addressof(arguments))

    def _stamp(self, address: int) -> None:
        self._parameters.stamp(address)


class Parameters:
    """Of all launches of a program (task.cuh: LaunchOf), written together. ``own``: addresses of buffers that never
    change; ``fixed``: the rest that does not, by name.
    """

    def __init__(
        self, program: Program, shape: Shape, launches: Sequence[OpLaunch], own: dict[int, int], fixed: dict[str, int]
    ) -> None:
        made = launch_type(shape)
        self._words = np.zeros((len(launches), shape.launch_bytes // 8), np.int64)
        self.all = [made.from_address(row.ctypes.data) for row in self._words]
        self._columns = {name: getattr(made, name).offset // 8 for name in ("symbols", "buffers", "stamps")}
        self._operands = np.zeros((len(launches), shape.buffers), np.int64)  # beyond a launch's own: any buffer
        for row, launch in zip(self._operands, launches, strict=True):
            row[: len(launch.operands)] = launch.operands
        self._addresses = np.zeros(max(len(program.buffers), 1), np.int64)
        self._addresses[list(own)] = list(own.values())
        self._outer = [i for i in range(len(program.buffers)) if i not in own]
        record = fixed["records"]
        for parameters, launch in zip(self.all, launches, strict=True):
            for name, value in (fixed | {"records": record, "last": launch is launches[-1]}).items():
                setattr(parameters, name, value)
            record += len(launch.tasks) * 4 * shape.record_words

    def give(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """The addresses of all buffers and the values of all symbols."""
        self._addresses[self._outer] = [pointers[i] for i in self._outer]
        self._words[:, self._columns["buffers"] :] = self._addresses[self._operands]
        first = self._columns["symbols"]
        self._words[:, first : first + len(symbols)] = symbols

    def stamp(self, address: int) -> None:
        """Where launches write their tasks' times."""
        self._words[:, self._columns["stamps"]] = address
