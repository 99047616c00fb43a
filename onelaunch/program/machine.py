"""Machines: what a target runs on. The cost model and the schedule read nothing else about it."""

from __future__ import annotations

import dataclasses

from onelaunch.graph.dtype import DType


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """Workers and measured costs of one kind of machine. Times in nanoseconds, sizes in bytes."""

    name: str  # "cpu", "cuda-sm90a", "reference"
    workers: int
    bandwidth: float  # bytes/ns that all workers together read from memory
    flops: float  # fp32 multiply-adds per ns of one worker in plain loops
    transcendental: float  # ns of one worker for one exp, tanh, ... inside a loop
    dependency: float  # ns from the last signal of an event to the first instruction of a waiting task
    task: float  # ns of fixed cost of a task
    activation: DType  # type in which intermediates of 16 bits are kept in the workspace, if transform/width.py says so
    linear_rows: int  # a tile of a linear op begins at a multiple of this many output columns
    alignment: int  # bytes to which workspace buffers are aligned
    attend_parts: int = 1  # into so many parts the positions of an attention are split at most
    position: float = 0.0  # ns at least of one position in an attention's task: the latency of what it loads
    grain: float = 0.0  # ns of work that pay for one more task of an op; 0: a task and a dependency
    staged: int = 0  # bytes of a product's inputs that come in one trip to memory; 0: any number
    unstaged: float = 1.0  # bytes/ns at which more than that come
    element: float = 0.0  # ns at least of one element that an op without products or attention stores
    fixed: bool = False  # gains by sizes that do not vary: see runtime/buckets.py
    forwards: bool = False  # attention takes what was just stored from where it was computed (transform/forward.py)


def cpu(workers: int) -> Machine:
    """A CPU with ``workers`` threads (constants measured on server cores of 2023 with AVX2)."""
    return Machine(
        name="cpu", workers=workers, bandwidth=20.0 * workers, flops=16.0, transcendental=2.0,
        dependency=300.0, task=100.0, activation=DType.F32, linear_rows=8, alignment=64, attend_parts=16,
    )  # fmt: skip


def cuda(workers: int = 132, name: str = "cuda-sm90a", bandwidth: float = 4600.0 / 132) -> Machine:
    """A GPU with ``workers`` resident blocks, each with so much of the bandwidth (constants measured on one H200:
    docs/design.md).

    A worker is a block of 256 computing threads: ``flops`` and ``transcendental`` are those of all of them in generated
    loops. ``dependency`` runs from the last product of one op to the first of the next.
    """
    return Machine(
        name=name, workers=workers, bandwidth=bandwidth * workers, flops=64.0, transcendental=0.06,
        dependency=2500.0, task=1100.0, activation=DType.F32, linear_rows=8, alignment=256, attend_parts=16,
        position=9.0, grain=200.0, staged=56 * 1024, unstaged=4.0, element=0.1, fixed=True,
    )  # fmt: skip
