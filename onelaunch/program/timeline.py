"""What one launch of a program really did: when each task's worker reached it, when its events let it go, when it was
done. Plain data, the same for every target; and the critical path through it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Sequence

from onelaunch.errors import LaunchError
from onelaunch.program.program import Program


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """One task, in nanoseconds of any one clock. ``ended``: it was done. A target may signal that a little before or
    after, so that a task that waits for it may have begun a little earlier.
    """

    worker: int
    task: int
    arrived: int
    began: int
    ended: int


class Cause(enum.StrEnum):
    """What a task of the critical path came after."""

    LAUNCH = "launch"  # the beginning of the launch
    QUEUE = "queue"  # the task before it in its worker's queue
    EVENT = "event"  # a signal that it waited for

    __hash__ = str.__hash__


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One task of the critical path. From the end of the step before it (or the launch's beginning) ``gap`` nanoseconds
    passed until it began, and ``run`` more until it was done: these add up to the whole launch.
    """

    task: int
    cause: Cause
    event: tuple[int, int] | None  # (event, value) where the cause is one
    gap: int
    run: int


@dataclasses.dataclass(frozen=True)
class Timeline:
    """A launch. ``slices``: by number of task."""

    program: Program
    slices: tuple[Slice, ...]

    @functools.cached_property
    def begin(self) -> int:
        """When the first worker reached its first task."""
        return min((s.arrived for s in self.slices), default=0)

    @functools.cached_property
    def end(self) -> int:
        """When the last task was done."""
        return max((s.ended for s in self.slices), default=0)

    @property
    def nanoseconds(self) -> int:
        """From the first to the last."""
        return self.end - self.begin

    def queues(self) -> list[list[Slice]]:
        """The slices of each worker, in the order in which it ran them."""
        return [[self.slices[n] for n in queue] for queue in self.program.queues]


def timeline_of(program: Program, times: Sequence[tuple[int, int, int]]) -> Timeline:
    """A timeline from (arrived, began, ended) of every task. Raises LaunchError where a task has no times, or a worker
    would have been in two tasks at once: then they are not of one launch that ended well.
    """
    if len(times) != len(program.tasks):
        raise LaunchError(f"{program.name} has {len(program.tasks)} tasks, and times of {len(times)} were recorded")
    found: list[Slice | None] = [None] * len(times)
    for worker, queue in enumerate(program.queues):
        free = 0
        for n in queue:
            arrived, began, ended = times[n]
            if arrived <= 0 or not free <= arrived <= began <= ended:
                raise LaunchError(
                    f"task {n} ({program.ops[program.tasks[n].op]}) has times {arrived}, {began}, {ended} after "
                    f"{free}: they are not of one launch that ended well"
                )
            found[n] = Slice(worker, n, arrived, began, ended)
            free = ended
    missing = [n for n, s in enumerate(found) if s is None]
    if missing:
        raise LaunchError(f"task {missing[0]} of {program.name} is in no queue, and never ran")
    return Timeline(program, tuple(s for s in found if s is not None))


def critical_path(timeline: Timeline) -> list[Step]:
    """From the launch's beginning to the task that ended last, backwards through whichever ended last of the task
    before in the queue and the last signals that were waited for.
    """
    program, slices = timeline.program, timeline.slices
    if not slices:
        return []
    before = {n: queue[i - 1] for queue in program.queues for i, n in enumerate(queue) if i}
    signallers: list[list[int]] = [[] for _ in program.events]
    for n, task in enumerate(program.tasks):
        for event in task.signals:
            signallers[event].append(n)
    for own in signallers:
        own.sort(key=lambda n: slices[n].ended)
    at = max(slices, key=lambda s: (s.ended, s.task)).task
    chain: list[tuple[int, Cause, tuple[int, int] | None]] = []
    seen: set[int] = set()
    while True:
        seen.add(at)
        candidates: list[tuple[int, int, Cause, tuple[int, int] | None]] = []
        if at in before:
            candidates.append((slices[before[at]].ended, before[at], Cause.QUEUE, None))
        for event, value in program.tasks[at].waits:
            # A task that began later cannot have signalled before; clocks tell that, where an end's stamp may be late.
            able = [n for n in signallers[event] if slices[n].began <= slices[at].began and n not in seen]
            if value > 0 and able:
                last = able[min(value, len(able)) - 1]
                candidates.append((slices[last].ended, last, Cause.EVENT, (event, value)))
        if not candidates:
            chain.append((at, Cause.LAUNCH, None))
            break
        _, cause, kind, reached = max(candidates, key=lambda c: c[:2])
        chain.append((at, kind, reached))
        at = cause
    return _steps(timeline, chain[::-1])


def _steps(timeline: Timeline, chain: Sequence[tuple[int, Cause, tuple[int, int] | None]]) -> list[Step]:
    steps = []
    free = timeline.begin
    for n, cause, event in chain:
        s = timeline.slices[n]
        began, ended = max(s.began, free), max(s.ended, free)
        steps.append(Step(n, cause, event, began - free, ended - began))
        free = ended
    return steps
