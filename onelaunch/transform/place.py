"""Place: every task on a worker's queue, every dependency that queue order does not give already on an event.

Tasks are placed in program order on the worker that can start them first, by estimated costs, among several on the one
that has been free for longest: it has asked for what the task needs when the others begin to. So each queue is a
subsequence of one order in which all dependencies point forward, and no schedule can deadlock. Happens-before is kept
as one clock a worker (vector clocks: Fidge 1988, Mattern 1989), and a wait that another wait implies is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onelaunch.program.machine import Machine
from onelaunch.transform.order import Group

Clock = npt.NDArray[np.int32]


class Schedule:
    """Queues, waits and signals, filled task by task."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.queues: list[list[int]] = [[] for _ in range(machine.workers)]
        self.waits: list[list[int]] = []  # events a task waits for (each until all its producers have signalled)
        self.producers: list[Group] = []  # of each event
        self._free = np.zeros(machine.workers)  # time at which each worker is free
        self._finish: list[float] = []
        self._worker: list[int] = []
        self._position: list[int] = []
        self._clock: list[Clock] = []  # at the end of each task
        self._events: dict[Group, int] = {}
        self._needs: dict[Group, Clock] = {}
        self._joined: dict[Group, Clock] = {}
        self._ready: dict[Group, float] = {}

    def add(self, after: list[Group], estimate: float) -> None:
        """Place the next task, which must come after every task of the groups and takes ``estimate`` ns."""
        ready = max((self._ready_time(g) for g in after), default=0.0)
        start = np.maximum(self._free, ready)
        soonest = np.flatnonzero(start == start.min())
        worker = int(soonest[np.argmin(self._free[soonest])])
        queue = self.queues[worker]
        clock = self._clock[queue[-1]].copy() if queue else np.zeros(self.machine.workers, np.int32)
        waits: list[int] = []
        for group in sorted(after, key=lambda g: g.tasks[-1], reverse=True):
            if bool((clock >= self._need(group)).all()):
                continue
            waits.append(self._event(group))
            np.maximum(clock, self._join(group), out=clock)
        task = len(self.waits)
        queue.append(task)
        clock[worker] = len(queue)
        self.waits.append(waits)
        self._clock.append(clock)
        self._worker.append(worker)
        self._position.append(len(queue))
        self._finish.append(float(start[worker]) + estimate)
        self._free[worker] = self._finish[-1]

    def signals(self) -> list[list[int]]:
        """Events that each task signals."""
        table: list[list[int]] = [[] for _ in self.waits]
        for event, group in enumerate(self.producers):
            for task in group.tasks:
                table[task].append(event)
        return table

    def _event(self, group: Group) -> int:
        if group not in self._events:
            self._events[group] = len(self.producers)
            self.producers.append(group)
        return self._events[group]

    def _ready_time(self, group: Group) -> float:
        if group not in self._ready:
            self._ready[group] = max(self._finish[t] for t in group.tasks) + self.machine.dependency
        return self._ready[group]

    def _need(self, group: Group) -> Clock:
        """For each worker, how many tasks of its queue must be done for the group to be done."""
        if group not in self._needs:
            need = np.zeros(self.machine.workers, np.int32)
            for t in group.tasks:
                need[self._worker[t]] = max(need[self._worker[t]], self._position[t])
            self._needs[group] = need
        return self._needs[group]

    def _join(self, group: Group) -> Clock:
        """What is known to be done once the whole group is."""
        if group not in self._joined:
            self._joined[group] = np.maximum.reduce([self._clock[t] for t in group.tasks])
        return self._joined[group]
