"""Deadlock: run the queues without computing. Counters only grow, so one greedy run decides for all orders."""

from __future__ import annotations

from collections.abc import Sequence

from onelaunch.program.program import Program


class Progress:
    """One greedy run. ``order`` holds the tasks that ran, in an order that some execution has.

    ``without`` names a task that never runs: what then still runs is what that task does not precede.
    """

    def __init__(self, program: Program, without: int = -1) -> None:
        self.program = program
        self.heads = [0] * len(program.queues)
        self.counts = [0] * len(program.events)
        self.order: list[int] = []
        waiting: dict[tuple[int, int], list[int]] = {}  # (event, count at which it wakes them) -> workers
        ready = list(range(len(program.queues) - 1, -1, -1))
        while ready:
            self._advance(ready.pop(), ready, waiting, without)

    def _advance(self, worker: int, ready: list[int], waiting: dict[tuple[int, int], list[int]], without: int) -> None:
        queue, tasks, counts = self.program.queues[worker], self.program.tasks, self.counts
        while self.heads[worker] < len(queue):
            number = queue[self.heads[worker]]
            if number == without:
                return
            task = tasks[number]
            for event, value in task.waits:
                if counts[event] < value:
                    waiting.setdefault((event, value), []).append(worker)
                    return
            self.heads[worker] += 1
            self.order.append(number)
            for event in task.signals:
                counts[event] += 1
                ready.extend(waiting.pop((event, counts[event]), ()))

    @property
    def finished(self) -> bool:
        """Whether every task ran."""
        return all(h == len(q) for h, q in zip(self.heads, self.program.queues, strict=True))

    def stuck(self) -> list[tuple[int, int, int, int]]:
        """(worker, task, event, value) of every worker that waits forever."""
        found: list[tuple[int, int, int, int]] = []
        for worker, (head, queue) in enumerate(zip(self.heads, self.program.queues, strict=True)):
            if head < len(queue):
                task = self.program.tasks[queue[head]]
                blocking = [(e, v) for e, v in task.waits if self.counts[e] < v]
                found.extend((worker, queue[head], e, v) for e, v in blocking[:1])
        return found


def positions(queues: Sequence[Sequence[int]], tasks: int) -> tuple[list[int], list[int]]:
    """(worker, place in its queue) of every task."""
    worker_of, place_of = [0] * tasks, [0] * tasks
    for worker, queue in enumerate(queues):
        for place, number in enumerate(queue):
            worker_of[number], place_of[number] = worker, place
    return worker_of, place_of
