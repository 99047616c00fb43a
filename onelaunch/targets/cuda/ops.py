"""The other lowering of a program: an ordinary launch for each op, with a block for each of its tasks (op.cuh).

Ops come in the program's order, which is what it means: queues and events are not used. Each kernel is an entry point
of its own, with the registers and the shared memory that it needs itself, and a launch carries the addresses of its
own operands alone; records number operands accordingly. So blocks are small enough for those of the next op to begin
beside them, and parameters small enough to be sent hundreds of times a step.
"""

from __future__ import annotations

import dataclasses
import itertools

from onelaunch.program.program import Program
from onelaunch.targets.cuda.architecture import TESTED
from onelaunch.targets.cuda.architecture import Architecture
from onelaunch.targets.cuda.emit import STAGE_BYTES
from onelaunch.targets.cuda.emit import Source
from onelaunch.targets.cuda.emit import shape_of
from onelaunch.targets.cuda.emit import write_kernels
from onelaunch.targets.cuda.records import Tables

THREADS = 320  # of a block (op.cuh: kOpBlock)
STAGES = 2  # one that is used, one that comes; more would leave no room for the next op's blocks


@dataclasses.dataclass(frozen=True, slots=True)
class OpLaunch:
    """Tasks that run one kernel over the same buffers."""

    kernel: int
    operands: tuple[int, ...]
    tasks: tuple[int, ...]


class OpSource(Source):
    """Generated code with an entry point for each kernel."""

    __slots__ = ()

    @property
    def engine(self) -> str:
        """See ``Source``."""
        return "op"

    def shared_of(self, kernel: int) -> int:
        """Bytes of a block that runs ``kernel`` (op.cuh: work_on_op)."""
        code = self.kernels[kernel]
        slots = self.shape.slots * self.shape.slot_bytes if code.fetch else 0
        return self.shape.block_bytes + code.shared + slots + (self.shape.stages * STAGE_BYTES if code.stream else 0)

    def entries(self) -> str:
        """See ``Source``."""
        numbers = range(len(self.kernels))
        kernels = "\n".join(self._kernel(n) for n in numbers)
        return f"{kernels}\n}}  // namespace onelaunch\n\n" + "\n".join(_entry(n) for n in numbers)

    def _kernel(self, number: int) -> str:
        code = self.kernels[number]
        stream = f"stream_{number}(launch, task, producer);" if code.stream else ""
        fetch = f"fetch_{number}(launch, task, fetcher);" if code.fetch else ""
        return f"""struct Kernel{number} {{
  static constexpr uint32_t kShared = {code.shared};
  static constexpr bool kFetches = {"true" if code.fetch else "false"};
  static __device__ __forceinline__ void run(const Launch& launch, const Task& task, const Scratch& scratch,
                                             Ring& stages, Slots& fetched) {{
    run_{number}(launch, task, scratch, stages, fetched);
  }}
  static __device__ __forceinline__ void stream(const Launch& launch, const Task& task, Source& producer) {{{stream}}}
  static __device__ __forceinline__ void fetch(const Launch& launch, const Task& task, Fetch& fetcher) {{{fetch}}}
}};
"""


def entry(kernel: int) -> str:
    """The name of a kernel's entry point."""
    return f"onelaunch_op_{kernel}"


def generate(program: Program, architecture: Architecture = TESTED) -> OpSource:
    """The source of all kernels of ``program``; raises as ``emit.generate`` does."""
    codes, flow = write_kernels(program)
    operands = max((len(k.operands) for k in program.kernels), default=1)
    return OpSource(codes, shape_of(program, codes, flow, operands, STAGES, architecture), flow)


def launches_of(program: Program) -> list[OpLaunch]:
    """The launches, in order."""
    tasks = program.tasks
    by_op = sorted(range(len(tasks)), key=lambda n: tasks[n].op)
    groups = itertools.groupby(by_op, key=lambda n: (tasks[n].op, tasks[n].kernel, tasks[n].operands))
    return [OpLaunch(kernel, operands, tuple(group)) for (_, kernel, operands), group in groups]


def overlaps(source: Source, launches: list[OpLaunch], number: int) -> bool:
    """Whether a launch may begin before the one before it has ended. The first waits for whatever precedes it in the
    stream; so does one whose blocks keep values in global memory of their own, which two launches would share.
    """
    return number > 0 and source.kernels[launches[number].kernel].scratch == 0


def tables_of(program: Program, source: Source) -> Tables:
    """Records of all tasks, launch after launch. They know their operands by their place among the launch's."""
    order = tuple(n for launch in launches_of(program) for n in launch.tasks)
    tasks = tuple(
        dataclasses.replace(t, operands=tuple(range(len(t.operands))), waits=(), signals=()) for t in program.tasks
    )
    return Tables(dataclasses.replace(program, tasks=tasks, queues=(order,)), source.shape, source.flow)


def _entry(number: int) -> str:
    return f"""extern "C" __global__ void __launch_bounds__(onelaunch::kOpBlock, 1)
    {entry(number)}(const __grid_constant__ onelaunch::Launch launch) {{
  onelaunch::work_on_op<onelaunch::Kernel{number}>(launch);
}}
"""
