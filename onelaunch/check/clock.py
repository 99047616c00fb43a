"""Happens-before: for every task, how many tasks of each worker have finished for certain when it starts.

Order comes from queues and from waits. A wait for all signals of an event is certain of all signallers. A wait for
``value`` of ``total`` signals is certain of signaller s where fewer than ``value`` signals can come without s: all
signallers but those ordered after s. That rule misses some orders (two waits that only together need s), so a pair that
the clocks leave open is settled by a run that leaves the first task out; ``Clocks.before`` is exact.
"""

from __future__ import annotations

import numpy as np

from onelaunch.check.progress import Progress
from onelaunch.check.progress import positions
from onelaunch.program.program import Program

STEPS = 3_000_000  # tasks run again, in all, to settle open pairs; beyond it a pair counts as unordered


class Clocks:
    """``at[t, w]``: tasks of worker w that have finished for certain when task t starts."""

    def __init__(self, program: Program, order: list[int]) -> None:
        self.program = program
        workers = len(program.queues)
        self.worker, self.place = positions(program.queues, len(program.tasks))
        self.at = np.zeros((len(program.tasks), workers), dtype=np.int32)
        self.rank = np.zeros(len(program.tasks), dtype=np.int64)  # place in one order that really happens
        self.rank[order] = np.arange(len(order))
        self.op = [t.op for t in program.tasks]
        self.signallers: list[list[int]] = [[] for _ in program.events]
        for number, task in enumerate(program.tasks):
            for event in task.signals:
                self.signallers[event].append(number)
        self._missing = [len(s) for s in self.signallers]  # signallers whose clocks are not known yet
        self._joined = np.zeros((len(program.events), workers), dtype=np.int32)
        self._partial: dict[tuple[int, int], np.ndarray] = {}
        self._after: dict[int, frozenset[int]] = {}
        self._steps = 0
        self._known = np.zeros(len(program.tasks), dtype=bool)
        for number in order:
            self._visit(number)
        # As ``at``, with the task itself finished, and a last column that is later than everything.
        self.now = np.concatenate([self.at, np.full((len(program.tasks), 1), 1 << 30, dtype=np.int32)], 1)
        self.now[np.arange(len(program.tasks)), self.worker] += 1

    def _visit(self, number: int) -> None:
        task = self.program.tasks[number]
        worker, place = self.worker[number], self.place[number]
        clock = self.at[number]
        if place:
            np.maximum(clock, self.at[self.program.queues[worker][place - 1]], out=clock)
        clock[worker] = place
        for event, value in task.waits:
            if value == len(self.signallers[event]) and not self._missing[event]:
                np.maximum(clock, self._joined[event], out=clock)
            elif value > 0:
                np.maximum(clock, self._certain(event, value), out=clock)
        self._known[number] = True
        for event in task.signals:
            joined = self._joined[event]
            np.maximum(joined, clock, out=joined)
            joined[worker] = max(joined[worker], place + 1)
            self._missing[event] -= 1

    def _certain(self, event: int, value: int) -> np.ndarray:
        """The clock that a wait for ``value`` signals guarantees."""
        complete = not self._missing[event]
        found = self._partial.get((event, value)) if complete else None
        if found is not None:
            return found
        who = np.array(self.signallers[event])
        workers, places = np.array(self.worker)[who], np.array(self.place)[who]
        seen = self.at[who]  # zero where not known yet: a smaller claim
        after = seen[:, workers] > places[None, :]  # [later, earlier]
        after |= (workers[:, None] == workers[None, :]) & (places[:, None] >= places[None, :])
        sure = len(who) - after.sum(0) < value
        clock = np.zeros(self.at.shape[1], dtype=np.int32)
        for s in np.flatnonzero(sure):
            if self._known[who[s]]:
                np.maximum(clock, seen[s], out=clock)
                clock[workers[s]] = max(clock[workers[s]], places[s] + 1)
        if complete:
            self._partial[event, value] = clock
        return clock

    def before(self, a: int, b: int) -> bool:
        """Whether task a has finished in every execution when task b starts."""
        if self.at[b, self.worker[a]] > self.place[a]:
            return True
        if a == b or self.rank[a] > self.rank[b]:
            return False
        if a not in self._after:
            if self._steps > STEPS:
                return False
            run = Progress(self.program, without=a)
            self._steps += len(self.program.tasks)
            self._after[a] = frozenset(range(len(self.program.tasks))) - frozenset(run.order) - {a}
        return b in self._after[a]
