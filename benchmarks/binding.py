"""What a call costs besides the launch: a program of a small model's arguments on an executable that does nothing.

    python -m benchmarks.binding [weights] [states] [outputs]

Prints microseconds (the best of many batches), by what changed since the call before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from collections.abc import Sequence

import torch

from onelaunch.graph.build import const
from onelaunch.graph.dtype import DType
from onelaunch.program.program import Buffer
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.runtime.binding import Binding
from onelaunch.runtime.compiled import CompiledSegment
from onelaunch.runtime.signature import Signature


class Nothing:
    """An executable that does nothing."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def launch(self, pointers: Sequence[int], symbols: Sequence[int]) -> None:
        """Return at once."""


def program(weights: int, states: int, outputs: int) -> Program:
    """Arguments in the order: token, position, states, weights."""
    roles = [Role.INPUT] * 2 + [Role.STATE] * states + [Role.WEIGHT] * weights
    arguments = [_buffer(f"a{n}", role, n) for n, role in enumerate(roles)]
    results = [_buffer(f"r{n}", Role.OUTPUT, n) for n in range(outputs)]
    return Program("nothing", "cpu", (), (*arguments, *results), (), (), (), (), (), 0)


def _buffer(name: str, role: Role, number: int) -> Buffer:
    return Buffer(name, DType.F32, (const(4), const(8)), (const(8), const(1)), role, number)


def segment_of(made: Program) -> CompiledSegment:
    """A segment that runs the program on nothing."""
    arguments = sum(b.role is not Role.OUTPUT for b in made.buffers)
    results = tuple(b.argument for b in made.buffers if b.role is Role.OUTPUT)
    segment = CompiledSegment("nothing", "", Signature(arguments, (), results), (), None)  # type: ignore[arg-type]
    segment._by_values[()] = Binding(made, Nothing(made))
    return segment


def best(call: Callable[[], object], batches: int = 600, calls: int = 10) -> float:
    """Microseconds of one call in the fastest batch."""
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls)
    return 1e6 * min(times)


def measure(weights: int = 272, states: int = 92, outputs: int = 1) -> dict[str, float]:
    """Microseconds a call, by what changed."""
    made = program(weights, states, outputs)
    segment = segment_of(made)
    args = [torch.zeros(4, 8) for _ in range(2 + states + weights)]
    fresh = [[torch.zeros(4, 8) for _ in range(2)] for _ in range(2)]
    turn = 0

    def decode() -> object:
        nonlocal turn
        turn = 1 - turn
        return segment(*fresh[turn], *args[2:])

    def no_op(*_: object) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_strided((4, 8), (8, 1), dtype=torch.float32) for _ in range(outputs))

    tensors = tuple(args)
    with torch.no_grad():
        return {
            "no-op backend (fresh outputs only)": best(lambda: no_op(*args)),
            "the same tensors": best(lambda: segment(*args)),
            "two new tensors (a decode step)": best(decode),
            "  of which: addresses of all arguments": best(lambda: list(map(torch.Tensor.data_ptr, tensors))),
            "  of which: identities of all arguments": best(lambda: list(map(id, tensors))),
        }


def main() -> None:
    """Print the table."""
    counts = [int(a) for a in sys.argv[1:4]]
    for what, time_us in measure(*counts).items():
        print(f"{what:45s} {time_us:8.1f} us")


if __name__ == "__main__":
    main()
