"""Order: which tasks must be done before which, from the overlap of the regions they declare.

Tasks come in program order, op by op; the tasks of one op do not depend on each other. A read waits for the last writers
of what it reads; a write waits for the last writers and for every reader since.
"""

from __future__ import annotations

import math

from onelaunch.program.program import Span
from onelaunch.transform.tile import Box

Access = tuple[int, Box]  # buffer, box
Group = tuple[int, ...]  # task numbers, ascending


def overlap(a: Box, b: Box) -> bool:
    return all(x.low < y.high and y.low < x.high for x, y in zip(a, b, strict=True))


def volume(box: Box) -> int:
    return math.prod(s.high - s.low for s in box)


class _History:
    """The accesses of one buffer that can still matter."""

    def __init__(self) -> None:
        self.writers: list[tuple[Box, int]] = []
        self.readers: list[tuple[Box, int]] = []


class Order:
    """Builds dependencies while tasks are added op by op."""

    def __init__(self, extents: list[tuple[int, ...]], reuses: dict[int, list[int]]) -> None:
        """``extents`` of every buffer; ``reuses``: buffers whose memory a buffer takes over."""
        self.size = [math.prod(e) for e in extents]
        self.whole: list[Box] = [tuple(Span(0, n) for n in e) for e in extents]
        self.reuses = reuses
        self.history: dict[int, _History] = {}
        self._groups: dict[Group, Group] = {}

    def add_op(self, first: int, accesses: list[tuple[list[Access], list[Access]]]) -> list[list[Group]]:
        """Dependencies of an op's tasks, numbered from ``first``: for each, groups of tasks it must come after.

        ``accesses``: (reads, writes) of each task.
        """
        memo: dict[tuple[int, Box, bool], Group] = {}
        result: list[list[Group]] = []
        for reads, writes in accesses:
            groups: dict[Group, None] = {}
            for (buffer, box), is_write in [*((r, False) for r in reads), *((w, True) for w in writes)]:
                key = (buffer, box, is_write)
                if key not in memo:
                    memo[key] = self._conflicts(buffer, box, is_write)
                if memo[key]:
                    groups.setdefault(memo[key])
            for buffer in {b for b, _ in writes if b in self.reuses}:
                for old in self.reuses[buffer]:
                    key = (old, self.whole[old], True)
                    if key not in memo:
                        memo[key] = self._conflicts(old, self.whole[old], True)
                    if memo[key]:
                        groups.setdefault(memo[key])
            result.append(list(groups))
        self._record(first, accesses)
        return result

    def _conflicts(self, buffer: int, box: Box, is_write: bool) -> Group:
        history = self.history.get(buffer)
        if history is None:
            return ()
        found = {task for other, task in history.writers if overlap(box, other)}
        if is_write:
            found |= {task for other, task in history.readers if overlap(box, other)}
        group = tuple(sorted(found))
        return self._groups.setdefault(group, group)

    def _record(self, first: int, accesses: list[tuple[list[Access], list[Access]]]) -> None:
        written: dict[int, int] = {}
        for _, writes in accesses:
            for buffer, box in writes:
                written[buffer] = written.get(buffer, 0) + volume(box)
        for buffer, total in written.items():
            if total >= self.size[buffer]:  # all of it is new: what came before is ordered through these tasks
                self.history[buffer] = _History()
        for n, (reads, writes) in enumerate(accesses):
            for buffer, box in reads:
                self.history.setdefault(buffer, _History()).readers.append((box, first + n))
            for buffer, box in writes:
                self.history.setdefault(buffer, _History()).writers.append((box, first + n))
