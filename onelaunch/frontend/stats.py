"""Numbers about what was compiled in this process, for ``explain``, benchmarks and tests."""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from onelaunch.frontend.fallback import Fallback
from onelaunch.frontend.segment import Segment
from onelaunch.program.program import Program


@dataclasses.dataclass(frozen=True, slots=True)
class ProgramStats:
    """One program; ``launches`` and ``compile_seconds`` are those of its segment so far."""

    name: str
    launches: int
    tasks: int
    events: int
    weight_bytes: int  # streamed by one launch
    workspace_bytes: int
    compile_seconds: float
    cache_hit: bool
    fallbacks: int  # ops of the same graph that stayed in torch
    launch: str = "one"  # Options.launch


@dataclasses.dataclass(slots=True)
class GraphRecord:
    """One Dynamo graph as it was compiled. Segments are held weakly: a record keeps no workspace alive."""

    name: str
    fallbacks: Sequence[Fallback]
    segments: list[weakref.ReferenceType[Any]]
    torch_parts: int
    wrapped: str | None  # why AOTAutograd's wrapper runs around every call
    plan_hit: bool  # tracing was skipped
    seconds: float  # from Dynamo's graph to something to call

    @property
    def live(self) -> list[Segment]:
        """The segments that are still in use."""
        return [s for s in (r() for r in self.segments) if s is not None]


_RECORDS: deque[GraphRecord] = deque(maxlen=256)


def record(entry: GraphRecord) -> None:
    """Remember one compiled graph; the oldest is forgotten."""
    _RECORDS.append(entry)


def records() -> list[GraphRecord]:
    """The graphs compiled in this process, oldest first."""
    return list(_RECORDS)


def last_programs() -> list[ProgramStats]:
    """Statistics of every program that is still in use, oldest first."""
    return [s for entry in _RECORDS for segment in entry.live for s in of_segment(segment, entry)]


def of_segment(segment: Segment, entry: GraphRecord) -> list[ProgramStats]:
    """Statistics of a segment's programs."""
    return [_of_program(p, segment, len(entry.fallbacks)) for p in getattr(segment, "programs", ())]


def _of_program(program: Program, segment: Segment, fallbacks: int) -> ProgramStats:
    return ProgramStats(
        name=program.name,
        launches=segment.launches,
        tasks=len(program.tasks),
        events=len(program.events),
        weight_bytes=program.weight_bytes,
        workspace_bytes=program.workspace,
        compile_seconds=segment.compile_seconds,
        cache_hit=segment.cache_hit,
        fallbacks=fallbacks,
        launch=getattr(segment, "launch", "one"),
    )
