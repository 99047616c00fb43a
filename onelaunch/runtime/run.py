"""Running a program by itself, one that was loaded from a file for example."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import torch

from onelaunch.errors import CallError
from onelaunch.frontend.options import Options
from onelaunch.frontend.options import parse
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.runtime.binding import Binding
from onelaunch.runtime.binding import MovedError
from onelaunch.runtime.binding import device_of
from onelaunch.runtime.extents import solve
from onelaunch.runtime.make import Maker


class Runner:
    """A program that was checked and built for a target; call it with its arguments."""

    def __init__(self, program: Program, options: Options | Mapping[str, Any] | None = None) -> None:
        """``options``: those of the backend. Raises OptionError for one that is unknown, CheckError where the program
        has no certificate, CompilerError where it cannot be built.
        """
        self.program = program
        self._made = Maker(options if isinstance(options, Options) else parse(options)).build(program)
        self.executable = self._made.executable
        self.device = device_of(self.executable)
        self._binding = Binding(program, self.executable, self.device)

    def __call__(
        self, arguments: Sequence[torch.Tensor], symbols: Mapping[str, int] | None = None
    ) -> list[torch.Tensor]:
        """Launch once. ``arguments``: tensors by the numbers that the program's buffers state; ``symbols``: values of
        those that are not the size of an argument. Returns the results by number; state is updated in place. Raises
        CallError for what does not fit.
        """
        wanted = 1 + max((b.argument for b in self.program.buffers if _is_argument(b.role)), default=-1)
        if len(arguments) < wanted:
            raise CallError(f"{self.program.name} got {len(arguments)} arguments; accepted: {wanted}")
        values = read_symbols(self.program, arguments) | dict(symbols or {})
        ordered = []
        for s in self.program.symbols:
            if s.name not in values:
                raise CallError(f"symbol {s.name} has no value; accepted: {s.minimum} to {s.maximum}")
            if not s.minimum <= values[s.name] <= s.maximum:
                raise CallError(f"symbol {s.name} is {values[s.name]}; accepted: {s.minimum} to {s.maximum}")
            ordered.append(values[s.name])
        try:
            made = self._binding.call(arguments, tuple(ordered))
        except MovedError:  # all of them may be on another GPU than at the last call
            made = self._binding.call(arguments, tuple(ordered))
        return [made[n] for n in sorted(made)]


def run(
    program: Program,
    arguments: Sequence[torch.Tensor],
    symbols: Mapping[str, int] | None = None,
    options: Options | Mapping[str, Any] | None = None,
) -> list[torch.Tensor]:
    """Check, build and launch a program once; see ``Runner``."""
    return Runner(program, options)(arguments, symbols)


def read_symbols(program: Program, arguments: Sequence[Any]) -> dict[str, int]:
    """The symbols that are sizes of arguments."""
    found: dict[str, int] = {}
    for b in program.buffers:
        if not _is_argument(b.role) or b.argument >= len(arguments):
            continue
        tensor = arguments[b.argument]
        if not isinstance(tensor, torch.Tensor):
            continue
        for extent, size in zip(b.shape, tensor.shape, strict=False):
            if (parts := solve(extent)) is not None and (size - parts[2]) % parts[1] == 0:
                found.setdefault(parts[0], (size - parts[2]) // parts[1])
    return found


def _is_argument(role: Role) -> bool:
    return role in (Role.WEIGHT, Role.INPUT, Role.STATE)
