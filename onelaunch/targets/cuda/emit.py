"""CUDA C++ of a program: one device function a kernel, a switch over them, and the entry point of the launch.

The hand-written headers in ``include/onelaunch`` hold everything that does not depend on the program. What they need to
know of it is the struct ``Shape``.
"""

from __future__ import annotations

import dataclasses
import re

from onelaunch.errors import CompilerError
from onelaunch.program.program import Program
from onelaunch.targets.cuda.architecture import TESTED
from onelaunch.targets.cuda.architecture import Architecture
from onelaunch.targets.cuda.dataflow import Dataflow
from onelaunch.targets.cuda.dataflow import dataflow
from onelaunch.targets.cuda.kernel import ALIGNMENT
from onelaunch.targets.cuda.kernel import Code
from onelaunch.targets.cuda.kernel import KernelWriter
from onelaunch.targets.source.tiles import constant_operands
from onelaunch.targets.source.tiles import tiles_of

ENTRY = "onelaunch_program"
STAGES_MOST, STAGES_LEAST = 6, 2
SLOTS_MOST = 2  # parts of inputs: one that is multiplied, one that comes
STAGE_BYTES = 32768  # ring.cuh
RECORDS = 16  # ring.cuh
PARAMETERS_LIMIT = 32764  # bytes that a launch may carry
_FIXED = 8 * 13  # bytes of a launch's parameters besides symbols and buffers (task.cuh: LaunchOf)
_STATE = 2048  # bytes of shared memory for barriers and the like, rounded up generously
_HEADERS = {
    "attend<": "attend", "linear<": "linear", "linear_plain<": "linear", "Halves<": "linear", "Ordered<": "linear",
    "linear_columns<": "columns", "staged(": "stage",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that a program's source states for the headers."""

    operands: int
    vars: int
    spans: int  # operands that are staged
    symbols: int
    buffers: int
    stages: int
    slots: int  # for parts of inputs that are fetched, at least 1
    slot_bytes: int
    shared: int
    scratch: int  # bytes of global memory a worker

    @property
    def record_words(self) -> int:
        """32-bit words of a task's record (task.cuh: TaskOf), a multiple of four."""
        return -(-(6 + 3 * 4 + 4 + self.operands + 2 * self.vars + 2 * self.spans) // 4) * 4

    @property
    def launch_bytes(self) -> int:
        """Size of the launch's parameters (task.cuh: LaunchOf)."""
        return _FIXED + 8 * (self.symbols + self.buffers)

    @property
    def block_bytes(self) -> int:
        """An upper limit of a block's shared memory besides ring and kernels' memory (engine.cuh: Block)."""
        return RECORDS * self.record_words * 4 + _STATE

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a launch gives each block (engine.cuh: shared_bytes)."""
        return self.stages * STAGE_BYTES + self.slots * self.slot_bytes + self.shared + self.block_bytes

    def text(self) -> str:
        """The C++ struct."""
        return (
            "struct Shape {\n"
            f"  static constexpr int kOperands = {self.operands}, kVars = {self.vars}, kSymbols = {self.symbols};\n"
            f"  static constexpr int kSpans = {self.spans}, kSlots = {self.slots}, kSlotBytes = {self.slot_bytes};\n"
            f"  static constexpr int kBuffers = {self.buffers}, kStages = {self.stages}, kShared = {self.shared};\n"
            f"  static constexpr uint64_t kScratch = {self.scratch};\n"
            "};\n"
            "using Launch = LaunchOf<Shape>;\n"
            "using Task = TaskOf<Shape>;\n"
            "using Ring = Stages<Shape::kStages>;\n"
            "using Source = Producer<Shape::kStages>;\n"
            "using Slots = Stages<Shape::kSlots, Shape::kSlotBytes>;\n"
            "using Fetch = Fetcher<Shape::kSlots, Shape::kSlotBytes>;\n"
            f'static_assert(sizeof(Task) == {4 * self.record_words}, "records.py packs this layout");\n'
            f'static_assert(sizeof(Launch) == {self.launch_bytes}, "records.py packs this layout");\n'
            f'static_assert(sizeof(Block<Shape>) <= {self.block_bytes}, "shared memory holds it");\n'
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Generated code of a program."""

    kernels: tuple[Code, ...]
    shape: Shape
    flow: Dataflow

    def text(self) -> str:
        """The translation unit."""
        functions = [f for code in self.kernels for f in (code.stream, code.fetch, code.run) if f]
        text = "\n".join(functions)
        needed = dict.fromkeys(h for call, h in _HEADERS.items() if re.search(rf"\b{re.escape(call)}", text))
        includes = "".join(f'#include "onelaunch/{h}.cuh"\n' for h in (self.engine, "scalar", *needed))
        return "\n".join(
            [f"{includes}\nnamespace onelaunch {{\n", self.shape.text(), *(f"{f}\n" for f in functions), self.entries()]
        )

    @property
    def engine(self) -> str:
        """The header that runs kernels."""
        return "engine"

    def entries(self) -> str:
        """What can be launched, and how it comes to the kernels; ends the namespace."""
        run = "".join(
            f"      case {n}: return run_{n}(launch, task, scratch, stages, fetched);\n"
            for n in range(len(self.kernels))
        )
        stream = "".join(
            f"      case {n}: return stream_{n}(launch, task, producer);\n"
            for n, code in enumerate(self.kernels) if code.stream
        )  # fmt: skip
        fetch = "".join(
            f"      case {n}: return fetch_{n}(launch, task, fetcher);\n"
            for n, code in enumerate(self.kernels) if code.fetch
        )  # fmt: skip
        return f"""struct Kernels {{
  static __device__ __forceinline__ void run(const Launch& launch, const Task& task, const Scratch& scratch,
                                             Ring& stages, Slots& fetched) {{
    switch (task.kernel) {{
{run}    }}
  }}
  static __device__ __forceinline__ void stream(const Launch& launch, const Task& task, Source& producer) {{
    switch (task.kernel) {{
{stream}    }}
  }}
  static __device__ __forceinline__ void fetch(const Launch& launch, const Task& task, Fetch& fetcher) {{
    switch (task.kernel) {{
{fetch}    }}
  }}
}};

}}  // namespace onelaunch

extern "C" __global__ void __launch_bounds__(onelaunch::kBlock, 1)
    {ENTRY}(const __grid_constant__ onelaunch::Launch launch) {{
  onelaunch::work<onelaunch::Kernels>(launch);
}}
"""


def generate(program: Program, architecture: Architecture = TESTED) -> Source:
    """The source of all kernels of ``program``. Raises CompilerError for a program larger than a launch can carry, or
    kernels that need more shared memory than the architecture has.
    """
    codes, flow = write_kernels(program)
    return Source(codes, shape_of(program, codes, flow, len(program.buffers), STAGES_MOST, architecture), flow)


def write_kernels(program: Program) -> tuple[tuple[Code, ...], Dataflow]:
    """The functions of all kernels, and how tasks get what they read."""
    tiles = tiles_of(program)
    symbols = [s.name for s in program.symbols]
    constant = constant_operands(program)
    flow = dataflow(program)
    return tuple(
        KernelWriter(i, kernel, symbols, tiles[i], constant[i], flow.uses[i]).write()
        for i, kernel in enumerate(program.kernels)
    ), flow


def shape_of(
    program: Program, codes: tuple[Code, ...], flow: Dataflow, buffers: int, stages: int, architecture: Architecture
) -> Shape:
    """The sizes of a program's source whose launches carry so many addresses, with so many stages if they fit. Raises
    CompilerError as ``generate`` does.
    """
    shared = max((c.shared for c in codes), default=0)
    parts = max((c.parts for c in codes), default=0)
    slot_bytes = max((c.slot for c in codes), default=0)
    shape = Shape(
        operands=max((len(k.operands) for k in program.kernels), default=1) or 1,
        vars=max((len(k.nest.vars) for k in program.kernels), default=1) or 1,
        spans=max((len(u.staged) for u in flow.uses), default=1) or 1,
        symbols=len(program.symbols) or 1,
        buffers=buffers or 1,
        stages=0,
        slots=max(1, min(parts, SLOTS_MOST)),
        slot_bytes=slot_bytes,
        shared=shared,
        scratch=-(-max((c.scratch for c in codes), default=0) // ALIGNMENT) * ALIGNMENT,
    )
    if shape.launch_bytes > PARAMETERS_LIMIT:
        raise CompilerError(
            f"{program.name} has {shape.buffers} buffers and {shape.symbols} symbols; a launch carries "
            f"{(PARAMETERS_LIMIT - _FIXED) // 8} of both"
        )
    if any(high >= 2**31 for t in program.tasks for _, high in t.tile):
        raise CompilerError(f"{program.name} has a loop of 2^31 steps or more, which task records do not hold")
    room = architecture.shared - shape.block_bytes - STAGES_LEAST * STAGE_BYTES - shared
    if shape.slots * slot_bytes > room:  # then parts come one by one
        shape = dataclasses.replace(shape, slots=1)
    shared += shape.slots * slot_bytes
    stages = min(stages, (architecture.shared - shape.block_bytes - shared) // STAGE_BYTES)
    if stages < STAGES_LEAST:
        raise CompilerError(
            f"{program.name} needs {shared:,} bytes of shared memory for its kernels; {architecture.name} leaves "
            f"{architecture.shared - shape.block_bytes - STAGES_LEAST * STAGE_BYTES:,} for them"
        )
    return dataclasses.replace(shape, stages=stages)


def source(program: Program) -> str:
    """The whole generated source as one text: the same for the same program."""
    return generate(program).text()
