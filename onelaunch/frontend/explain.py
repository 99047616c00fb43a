"""``onelaunch.explain(f, *args)``: what a function compiles to, what stays in torch, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule

from onelaunch.frontend import options as option_table
from onelaunch.frontend import stats
from onelaunch.frontend.calling import Runner
from onelaunch.frontend.compiler import Compilation
from onelaunch.frontend.compiler import compile_graph
from onelaunch.frontend.fallback import Fallback
from onelaunch.frontend.stats import ProgramStats
from onelaunch.program.program import Program


@dataclasses.dataclass(frozen=True)
class GraphExplanation:
    """One graph that Dynamo captured."""

    name: str
    launches: int  # in the call that was explained
    segments: int
    torch_parts: int
    wrapped: str | None
    plan_hit: bool
    seconds: float
    programs: Sequence[Program]
    stats: Sequence[ProgramStats]
    fallbacks: Sequence[Fallback]

    def __str__(self) -> str:
        found = "read from the cache" if self.plan_hit else "compiled"
        lines = [
            f"{self.name}: {_many(self.segments, 'segment')}, {_many(self.launches, 'launch', 'launches')}, "
            f"{_many(self.torch_parts, 'part')} in torch; {found} in {self.seconds:.2f} s"
        ]
        if self.wrapped:
            lines.append(f"  every call passes through AOTAutograd's wrapper: {self.wrapped}")
        for program, numbers in zip(self.programs, self.stats, strict=True):
            workers = _many(len(program.queues), "worker") if numbers.launch == "one" else "a launch for each op"
            lines.append(
                f"  {program.name}: {_many(len(program.ops), 'op')}, {_many(numbers.tasks, 'task')}, "
                f"{_many(numbers.events, 'event')}, {_many(len(program.kernels), 'kernel')}, "
                f"{workers}; streams {_bytes(numbers.weight_bytes)} of weights, "
                f"workspace {_bytes(numbers.workspace_bytes)}; "
                f"{'from the cache' if numbers.cache_hit else f'built in {numbers.compile_seconds:.2f} s'}"
            )
        lines += [f"  in torch: {f}" for f in self.fallbacks]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What one call of a function became; ``str()`` of it is meant to be read."""

    graphs: Sequence[GraphExplanation]

    @property
    def launches(self) -> int:
        """Launches of the call."""
        return sum(g.launches for g in self.graphs)

    @property
    def fallbacks(self) -> list[Fallback]:
        """All that stayed in torch."""
        return [f for g in self.graphs for f in g.fallbacks]

    @property
    def programs(self) -> list[Program]:
        """The programs of all graphs."""
        return [p for g in self.graphs for p in g.programs]

    def __str__(self) -> str:
        head = (
            f"{_many(len(self.graphs), 'graph')}, {_many(self.launches, 'launch', 'launches')} a call, "
            f"{_many(len(self.fallbacks), 'fallback')}"
        )
        return "\n".join([head, *(str(g) for g in self.graphs)])

    def save(self, path: str | Path) -> list[Path]:
        """Write drawings of every program: ``<path>.svg`` of ops and dependencies, ``<path>.queues.svg`` of workers.

        With several programs, each adds its name. Returns the files written. Raises UserError where the disk refuses.
        """
        from onelaunch.program.draw import draw

        base = Path(path)
        base = base.with_suffix("") if base.suffix in (".svg", ".html") else base
        named = base if len(self.programs) == 1 else None
        return [f for p in self.programs for f in draw(p, named or base.with_name(f"{base.name}.{p.name}.svg"))]


def explain(f: Callable[..., Any], *args: Any, options: Mapping[str, Any] | None = None, **kwargs: Any) -> Explanation:
    """Compile ``f`` for this call, run it once, and say what happened.

    ``f`` really runs: a decode step advances its cache, as any call would. Raises what compiling or calling raises.
    """
    parsed = option_table.parse(options)
    done: list[tuple[Compilation, list[Any]]] = []

    def remember(gm: GraphModule, inputs: Sequence[Any], **_: Any) -> Runner:
        compilation = compile_graph(gm, inputs, parsed)
        # Segments are held here until the numbers are read, and counted from before the first call.
        done.append((compilation, [(s, s.launches) for s in compilation.record.live]))
        return compilation.run

    torch.compile(f, backend=remember)(*args, **kwargs)
    return Explanation([_graph(c, before) for c, before in done])


def _graph(compilation: Compilation, before: list[Any]) -> GraphExplanation:
    entry = compilation.record
    live = entry.live
    return GraphExplanation(
        name=entry.name,
        launches=sum(s.launches - count for s, count in before),
        segments=len(entry.segments),
        torch_parts=entry.torch_parts,
        wrapped=entry.wrapped,
        plan_hit=entry.plan_hit,
        seconds=entry.seconds,
        programs=[p for s in live for p in s.programs],
        stats=[numbers for s in live for numbers in stats.of_segment(s, entry)],
        fallbacks=entry.fallbacks,
    )


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
