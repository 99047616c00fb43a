"""Running one nest on the CPU target: operands are torch tensors of any strides."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import torch

from onelaunch.graph import build as b
from onelaunch.graph.dtype import from_torch
from onelaunch.graph.expr import Expr
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Buffer
from onelaunch.program.program import Event
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import Symbol
from onelaunch.program.program import Task
from onelaunch.program.program import maximum
from onelaunch.targets.cpu.emit import source
from onelaunch.targets.cpu.target import CpuTarget
from tests.programs import cut


@functools.cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="onelaunch-codegen-"))


def one_kernel(
    nest: Nest,
    tensors: Mapping[str, torch.Tensor],
    sizes: Sequence[int] = (),
    shapes: Mapping[str, Sequence[Expr]] | None = None,
    symbols: Sequence[Symbol] = (),
    weights: Sequence[str] = (),
    workers: int = 1,
) -> Program:
    """A program of one nest, cut into tiles of ``sizes`` (0: the whole extent)."""
    buffers, operands = [], []
    for number, (name, t) in enumerate(tensors.items()):
        shape = tuple((shapes or {}).get(name, [b.const(n) for n in t.shape]))
        strides = tuple(b.const(s) for s in t.stride())
        role = Role.STATE if name == nest.target else Role.WEIGHT if name in weights else Role.INPUT
        dtype = from_torch(t.dtype)
        buffers.append(Buffer(name, dtype, shape, strides, role, number))
        operands.append(Operand(name, dtype, shape, strides))
    spans = []
    for i, v in enumerate(nest.vars):
        extent = maximum(v.args[0])
        spans.append(cut(extent, (sizes[i] if i < len(sizes) else 0) or extent))
    every = tuple(range(len(buffers)))
    tasks = tuple(Task(0, 0, every, tile, (), (), (), ()) for tile in itertools.product(*spans))
    queues = tuple(tuple(range(w, len(tasks), workers)) for w in range(workers))
    return Program(
        "one", "cpu", tuple(symbols), tuple(buffers), (Kernel(tuple(operands), nest),), (Event(0),), ("op",), tasks,
        queues, 0,
    )  # fmt: skip


def run(
    nest: Nest, tensors: Mapping[str, torch.Tensor], sizes: Sequence[int] = (), values: Sequence[int] = (), **options
) -> torch.Tensor:
    """The target tensor after one launch."""
    launch(one_kernel(nest, tensors, sizes, **options), tensors, values)
    return tensors[nest.target]


def expect(text: str, program: Program, count: int | None = None) -> None:
    """``text`` is in the program's source (so often, if that is asked)."""
    found = source(program).count(text)
    assert found > 0 if count is None else found == count


def launch(program: Program, tensors: Mapping[str, torch.Tensor], values: Sequence[int]) -> None:
    """One launch of ``program`` over ``tensors``. Tests of another target put their own in its place."""
    CpuTarget().build(program, folder()).launch([t.data_ptr() for t in tensors.values()], values)
