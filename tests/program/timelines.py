"""Synthetic launches with known times."""

from __future__ import annotations

import random

from onelaunch.program.program import Program
from onelaunch.program.timeline import Timeline
from onelaunch.program.timeline import timeline_of
from tests.program.programs import two_ops

# Task 1 signals last, task 2 waits for it, task 4 follows in task 2's queue and is the last to end.
TIMES = [(100, 110, 200), (100, 105, 300), (200, 310, 400), (300, 302, 350), (400, 401, 500)]


def known() -> Timeline:
    """A launch of ``two_ops`` whose critical path is 1, 2, 4."""
    return timeline_of(two_ops(), TIMES)


def soonest(program: Program, seed: int, latency: int = 0) -> Timeline:
    """A launch with random times of tasks, each of which begins as soon as it may, ``latency`` after its last event."""
    pick = random.Random(seed)
    heads, free = [0] * len(program.queues), [1000] * len(program.queues)
    signalled: list[list[int]] = [[] for _ in program.events]
    times: dict[int, tuple[int, int, int]] = {}
    progress = True
    while progress:
        progress = False
        for worker, queue in enumerate(program.queues):
            while heads[worker] < len(queue):
                n = queue[heads[worker]]
                task = program.tasks[n]
                # Signals of an event must all be known before the first `value` of them are.
                if any(len(signalled[e]) < program.events[e].total for e, _ in task.waits):
                    break
                ready = [sorted(signalled[e])[value - 1] + latency for e, value in task.waits if value]
                began = max([free[worker], *ready])
                times[n] = (free[worker], began, began + pick.randint(1, 500))
                free[worker] = times[n][2]
                heads[worker] += 1
                for event in task.signals:
                    signalled[event].append(times[n][2])
                progress = True
    return timeline_of(program, [times[n] for n in range(len(program.tasks))])
