"""What each kind of op took of a launch: time, waiting, bytes, bandwidth."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass

from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.program.timeline import Slice
from onelaunch.program.timeline import Timeline
from onelaunch.program.traffic import Meter

NAMES = 3  # of one group


@dataclass(frozen=True, slots=True)
class Usage:
    """All tasks that run one kernel of the program. Times in nanoseconds.

    Attributes:
        busy: of all workers together.
        waiting: the same, from reaching a task to its beginning.
        wall: while at least one of these tasks ran.
        weights: bytes of weights that they read.
        nbytes: bytes that they read and wrote; of what depends on run-time sizes, the most that it can be.
        bounded: whether it does depend on them.
    """

    kernel: int
    kind: Kind
    name: str
    runs: int
    busy: int
    waiting: int
    wall: int
    weights: int
    nbytes: int
    bounded: bool

    @property
    def bandwidth(self) -> float:
        """GB/s while at least one of them ran."""
        return self.nbytes / self.wall if self.wall else 0.0


@dataclass(frozen=True, slots=True)
class Total:
    """The whole launch; bandwidth over its whole time."""

    nanoseconds: int
    busy: int
    waiting: int
    weights: int
    nbytes: int

    @property
    def bandwidth(self) -> float:
        """GB/s of all that was moved."""
        return self.nbytes / self.nanoseconds if self.nanoseconds else 0.0

    @property
    def weight_bandwidth(self) -> float:
        """GB/s of weights alone: what a launch cannot do without."""
        return self.weights / self.nanoseconds if self.nanoseconds else 0.0


def usage(timeline: Timeline) -> list[Usage]:
    """One entry a kernel that ran, by time, the longest first."""
    program, meter = timeline.program, Meter(timeline.program)
    groups: dict[int, list[Slice]] = {}
    for s in timeline.slices:
        groups.setdefault(program.tasks[s.task].kernel, []).append(s)
    found = [
        Usage(
            kernel=kernel,
            kind=program.kernels[kernel].nest.kind,
            name=group_name(program, kernel),
            runs=len(own),
            busy=sum(s.ended - s.began for s in own),
            waiting=sum(s.began - s.arrived for s in own),
            wall=union((s.began, s.ended) for s in own),
            weights=sum(meter.of(s.task).weights for s in own),
            nbytes=sum(meter.of(s.task).nbytes for s in own),
            bounded=bool(program.symbols) or program.kernels[kernel].nest.kind is Kind.ATTEND,
        )
        for kernel, own in groups.items()
    ]
    return sorted(found, key=lambda u: (-u.busy, u.kernel))


def total(timeline: Timeline, groups: Sequence[Usage]) -> Total:
    """The sum of all of them."""
    return Total(
        timeline.nanoseconds, sum(u.busy for u in groups), sum(u.waiting for u in groups),
        sum(u.weights for u in groups), sum(u.nbytes for u in groups),
    )  # fmt: skip


def union(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of what the intervals cover together."""
    covered, until = 0, None
    for low, high in sorted(intervals):
        start = low if until is None else max(low, until)
        if high > start:
            covered += high - start
        until = high if until is None else max(until, high)
    return covered


def group_name(program: Program, kernel: int) -> str:
    """What the ops that run a kernel have in common, without the number of their layer."""
    ops = dict.fromkeys(t.op for t in program.tasks if t.kernel == kernel)
    names = list(dict.fromkeys(op_name(program.ops[op]) for op in ops))
    return ", ".join(names[:NAMES]) + (", ..." if len(names) > NAMES else "")


def op_name(label: str) -> str:
    """``linear mm_1 model.layers.0.self_attn.q_proj model.py:7`` is ``linear q_proj``: the end of the module's path,
    or else the value's name and where it comes from.
    """
    words = label.split()
    if len(words) < 2:
        return label
    kind, value = words[0], re.sub(r"_\d+", "", words[1])
    place = next((w for w in words[2:] if re.search(r"\.py:\d+$", w)), "")
    path = next((w for w in words[2:] if w != place), "")
    last = path.rsplit(".", 1)[-1]
    if not last or last.isdigit():
        return " ".join(w for w in (kind, value, place) if w)
    return f"{kind} {last}" if kind == Kind.LINEAR.value else f"{kind} {last} {value}"
