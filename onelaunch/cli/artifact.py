"""``onelaunch program``: looks at a program that was saved to a file, checks it, draws it, launches it."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onelaunch.errors import UserError
from onelaunch.frontend.options import TARGETS

if TYPE_CHECKING:
    import torch

    from onelaunch.program.program import Program
    from onelaunch.runtime.run import Runner


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as it came from the command line."""

    file: Path
    whole: bool
    drawing: Path | None
    launches: int
    target: str


def run(request: Request) -> None:
    """Do it, in the order in which a mistake shows soonest; standard output is written when all else is done."""
    if request.target not in TARGETS:
        raise UserError(f"unknown target {request.target!r}; accepted: {', '.join(TARGETS)}")
    if request.launches < 0:
        raise UserError(f"launches {request.launches} is not accepted; it is a whole number from 0 up")
    from onelaunch.check import check
    from onelaunch.program.draw import draw
    from onelaunch.program.file import load

    program = load(request.file)
    lines = [str(program)] if request.whole else [*_summary(program)]
    lines.append(f"checked: {check(program)}")
    if request.launches:
        lines.append(_launch(program, request.target, request.launches))
    if request.drawing is not None:
        lines += [f"drawn: {file}" for file in draw(program, request.drawing)]
    print("\n".join(lines))


def _summary(program: Program) -> list[str]:
    sizes = ", ".join(f"{s.name} from {s.minimum} to {s.maximum}" for s in program.symbols)
    return [
        f"{program.name}, for {program.machine}" + (f"; {sizes}" if sizes else ""),
        f"{len(program.ops)} ops, {len(program.tasks)} tasks, {len(program.events)} events, "
        f"{len(program.kernels)} kernels, {len(program.queues)} workers; {program.weight_bytes:,} bytes of weights, "
        f"{program.workspace:,} bytes of workspace",
    ]


def _launch(program: Program, target: str, launches: int) -> str:
    """Launch on made-up arguments: how long it takes, not what comes out."""
    made_up = MadeUp(program, target)
    taken = [1e3 * made_up.launch() for _ in range(launches)]
    return f"launched {launches} times on made-up arguments: {statistics.median(taken):.3f} ms in the median"


class MadeUp:
    """A program with made-up arguments, ready to be launched."""

    def __init__(self, program: Program, target: str) -> None:
        """Raises CheckError where the program has no certificate, CompilerError where it cannot be built."""
        from onelaunch.frontend.options import Options
        from onelaunch.runtime.run import Runner

        self.runner = Runner(program, Options(target=target, cache=False))
        self._symbols = {s.name: s.maximum for s in program.symbols}
        self._arguments = _arguments(self.runner, self._symbols)

    def launch(self) -> float:
        """Launch once; returns its wall seconds."""
        for tensor in self._arguments:
            if not tensor.is_floating_point():  # a counter that each launch raises would leave its cache
                tensor.zero_()
        start = time.perf_counter()
        self.runner(self._arguments, self._symbols)
        return time.perf_counter() - start


def _arguments(runner: Runner, symbols: dict[str, int]) -> list[torch.Tensor]:
    """Small random numbers, and zeros where integers may be indices; sizes at the symbols' maxima."""
    import torch

    from onelaunch.program.program import Role
    from onelaunch.runtime.extents import evaluate_all

    generator = torch.Generator().manual_seed(0)
    found: dict[int, torch.Tensor] = {}
    for b in runner.program.buffers:
        if b.role not in (Role.WEIGHT, Role.INPUT, Role.STATE):
            continue
        shape, strides = evaluate_all(b.shape, symbols), evaluate_all(b.strides, symbols)
        tensor = torch.empty_strided(shape, strides, dtype=b.dtype.torch).zero_()
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(shape, generator=generator) * 0.02)
        found[b.argument] = tensor.to(runner.device)
    return [found.get(n, torch.empty(0)) for n in range(1 + max(found, default=-1))]
