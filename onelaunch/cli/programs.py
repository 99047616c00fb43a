"""What the backend says about the programs that a generation ran: the one place that reads its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProgramUse:
    """The programs launched since a snapshot.

    Attributes:
        launches: how often, all programs together.
        tasks: tasks of one launch of each program.
        events: events of one launch of each program.
        weight_bytes: bytes of weights that one launch of each reads.
        compile_seconds: from Dynamo's graph to something to call.
        cached: whether all of it came from the disk cache.
        fallbacks: operators of these graphs that stayed in torch, with reason and count, the most frequent first.
    """

    launches: int
    tasks: int
    events: int
    weight_bytes: int
    compile_seconds: float
    cached: bool
    fallbacks: tuple[str, ...]


def snapshot() -> dict[int, int]:
    """The launches so far of every segment that is in use, for ``programs_used``."""
    from onelaunch.frontend.stats import records

    return {id(segment): segment.launches for record in records() for segment in record.live}


def executables_used(before: dict[int, int]) -> list[Any]:
    """What runs the programs of the segments launched since ``before``."""
    from onelaunch.frontend.stats import records

    live = [segment for record in records() for segment in record.live]
    used = [segment for segment in live if segment.launches > before.get(id(segment), 0)]
    return [binding.executable for segment in used for binding in getattr(segment, "bindings", ())]


def programs_used(before: dict[int, int]) -> ProgramUse | None:
    """What ran since ``before``; None if no program was launched."""
    from onelaunch.frontend.stats import records

    graphs = [
        (record, used)
        for record in records()
        if (used := [segment for segment in record.live if segment.launches > before.get(id(segment), 0)])
    ]
    if not graphs:
        return None
    segments: list[Any] = [segment for _, used in graphs for segment in used]
    programs = [program for segment in segments for program in segment.programs]
    return ProgramUse(
        launches=sum(segment.launches - before.get(id(segment), 0) for segment in segments),
        tasks=sum(len(program.tasks) for program in programs),
        events=sum(len(program.events) for program in programs),
        weight_bytes=sum(program.weight_bytes for program in programs),
        compile_seconds=sum(record.seconds for record, _ in graphs),
        cached=all(record.plan_hit for record, _ in graphs),
        fallbacks=_grouped([fallback for record, _ in graphs for fallback in record.fallbacks]),
    )


def _grouped(fallbacks: Sequence[Any]) -> tuple[str, ...]:
    """A model repeats its layers, and their operators: ``explain`` lists each one, here they are counted."""
    counts = Counter((fallback.op, fallback.reason) for fallback in fallbacks)
    return tuple(f"{count} {op}: {reason}" for (op, reason), count in counts.most_common())
