"""What a compiled segment takes and gives: where its symbols come from and which results are fresh."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import torch

from onelaunch.errors import CallError
from onelaunch.errors import ProgramFormatError
from onelaunch.errors import UnsupportedError
from onelaunch.frontend.symbols import UNBOUNDED
from onelaunch.frontend.symbols import hint
from onelaunch.graph.graph import Graph
from onelaunch.program.program import Symbol
from onelaunch.runtime.extents import solve


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a symbol is read: ``factor * symbol + constant`` is argument ``position``, an integer, or the size of its
    dimension ``dim`` (-1: the argument itself).
    """

    position: int
    dim: int = -1
    factor: int = 1
    constant: int = 0

    def read(self, args: Sequence[Any], name: str) -> int:
        """The symbol's value in a call."""
        found = args[self.position]
        if self.dim >= 0:
            if not isinstance(found, torch.Tensor) or found.dim() <= self.dim:
                raise CallError(f"argument {self.position} has no dimension {self.dim}, the size {name}")
            found = found.shape[self.dim]
        try:
            value, rest = divmod(int(found) - self.constant, self.factor)
        except (TypeError, ValueError):
            raise CallError(f"argument {self.position} is a {type(found).__name__}; accepted: an integer") from None
        if rest:
            raise CallError(f"argument {self.position}: {found} is not {self.factor} * {name} + {self.constant}")
        return value


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """``sources``: one for each symbol of the graph. ``results``: for each result the number of the program's output
    that it is, or -1 - position of the argument that it is.
    """

    arguments: int
    sources: tuple[Source, ...]
    results: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The signature as JSON values."""
        return {
            "arguments": self.arguments,
            "sources": [list(dataclasses.astuple(s)) for s in self.sources],
            "results": list(self.results),
        }


def from_json(stored: Mapping[str, Any]) -> Signature:
    """The signature that ``to_json`` gave. Raises ProgramFormatError for anything else."""
    try:
        sources = tuple(Source(*map(int, s)) for s in stored["sources"])
        results = tuple(int(r) for r in stored["results"])
        count = int(stored["arguments"])
        valid = all(0 <= s.position < count and s.factor != 0 for s in sources) and all(-1 - r < count for r in results)
    except (KeyError, TypeError, ValueError) as error:
        raise ProgramFormatError(f"stored signature is damaged: {error!r}") from None
    if not valid:
        raise ProgramFormatError("stored signature is damaged: a position is out of range")
    return Signature(count, sources, results)


def signature_of(module: torch.fx.GraphModule, graph: Graph) -> Signature:
    """The signature of ``module``, which was lowered to ``graph``. Raises UnsupportedError for an unknown symbol."""
    placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
    found: dict[str, Source] = {}
    for a in graph.arguments:
        for dim, extent in enumerate(a.value.shape):
            if (parts := solve(extent)) is not None:
                name, factor, constant = parts
                found.setdefault(name, Source(a.position, dim, factor, constant))
    for position, node in enumerate(placeholders):
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt) and value.node.expr.is_symbol:
            found[str(value.node.expr)] = Source(position)
    missing = [s.name for s in graph.symbols if s.name not in found]
    if missing:
        raise UnsupportedError(f"size {missing[0]} is neither an argument nor the size of one")
    positions = {a.value.name: a.position for a in graph.arguments}
    results = tuple(-1 - positions[name] if name in positions else graph.outputs.index(name) for name in graph.outputs)
    return Signature(len(placeholders), tuple(found[s.name] for s in graph.symbols), results)


def hints(module: torch.fx.GraphModule, sign: Signature, symbols: Sequence[Symbol]) -> tuple[int, ...]:
    """The values of ``symbols`` in the call that was captured; 1, or the nearest legal one, where none was seen."""
    values = [n.meta.get("val") for n in module.graph.nodes if n.op == "placeholder"]
    found = []
    for source, symbol in zip(sign.sources, symbols, strict=True):
        value = values[source.position]
        seen = hint(value if source.dim < 0 else value.shape[source.dim])
        unseen = min(max(1, symbol.minimum), symbol.maximum)
        found.append(unseen if seen == UNBOUNDED else (seen - source.constant) // source.factor)
    return tuple(found)
