"""Order: which tasks must be done before which, from the overlap of the regions they declare.

Tasks come in program order, op by op; the tasks of one op do not depend on each other. A read waits for the last
writers of what it reads; a write waits for the last writers and for every reader since.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from onelaunch.transform.tile import Box

Access = tuple[int, Box]  # buffer, box (equal boxes are one object)


class Group:
    """A set of tasks that others must come after; equal sets are one object."""

    __slots__ = ("tasks",)

    def __init__(self, tasks: tuple[int, ...]) -> None:
        self.tasks = tasks  # ascending


def volume(box: Box) -> int:
    """Elements of a box."""
    return math.prod(s.high - s.low for s in box)


class _Accesses:
    """Boxes of one buffer and the tasks that touched them."""

    def __init__(self) -> None:
        self._boxes: dict[Box, list[int]] = {}
        self._bounds: npt.NDArray[np.int64] | None = None

    def add(self, box: Box, task: int) -> None:
        self._boxes.setdefault(box, []).append(task)
        self._bounds = None

    def overlapping(self, box: Box) -> set[int]:
        """The tasks whose boxes meet ``box``."""
        if not self._boxes:
            return set()
        if not box:
            return {t for tasks in self._boxes.values() for t in tasks}
        if self._bounds is None:
            self._bounds = np.array([[(s.low, s.high) for s in b] for b in self._boxes])
        low, high = self._bounds[:, :, 0], self._bounds[:, :, 1]
        mine = np.array([(s.low, s.high) for s in box])
        hit: list[bool] = np.all((low < mine[:, 1]) & (mine[:, 0] < high), axis=1).tolist()
        found: set[int] = set()
        for tasks, met in zip(self._boxes.values(), hit, strict=True):
            if met:
                found.update(tasks)
        return found


class _History:
    """The accesses of one buffer that can still matter."""

    def __init__(self) -> None:
        self.writers = _Accesses()
        self.readers = _Accesses()


class Order:
    """Builds dependencies while tasks are added op by op."""

    def __init__(self, sizes: list[int], reuses: dict[int, list[int]], fixed: set[int]) -> None:
        """``sizes``: elements of every buffer; ``reuses``: buffers whose memory a buffer takes over; ``fixed``: buffers
        that no task writes.
        """
        self.sizes, self.reuses, self.fixed = sizes, reuses, fixed
        self.history: dict[int, _History] = {}
        self._groups: dict[tuple[int, ...], Group] = {}

    def add_op(self, first: int, accesses: list[tuple[list[Access], list[Access]]]) -> list[list[Group]]:
        """Dependencies of an op's tasks, numbered from ``first``: for each, groups of tasks it must come after.

        ``accesses``: (reads, writes) of each task.
        """
        memo: dict[tuple[int, int, bool], Group | None] = {}
        result: list[list[Group]] = []
        for reads, writes in accesses:
            groups: dict[Group, None] = {}
            for (buffer, box), is_write in [*((r, False) for r in reads), *((w, True) for w in writes)]:
                key = (buffer, id(box), is_write)
                if key not in memo:
                    memo[key] = self._conflicts(buffer, box, is_write)
                if (group := memo[key]) is not None:
                    groups.setdefault(group)
            for old in {o for buffer, _ in writes for o in self.reuses.get(buffer, ())}:
                key = (old, 0, True)
                if key not in memo:
                    memo[key] = self._conflicts(old, (), True)
                if (group := memo[key]) is not None:
                    groups.setdefault(group)
            result.append(list(groups))
        self._record(first, accesses)
        return result

    def _conflicts(self, buffer: int, box: Box, is_write: bool) -> Group | None:
        """The earlier tasks that an access must come after; an empty box stands for the whole buffer."""
        history = self.history.get(buffer)
        if history is None:
            return None
        found = history.writers.overlapping(box)
        if is_write:
            found = found | history.readers.overlapping(box)
        if not found:
            return None
        tasks = tuple(sorted(found))
        if tasks not in self._groups:
            self._groups[tasks] = Group(tasks)
        return self._groups[tasks]

    def _record(self, first: int, accesses: list[tuple[list[Access], list[Access]]]) -> None:
        written: dict[int, int] = {}
        for _, writes in accesses:
            for buffer, box in writes:
                written[buffer] = written.get(buffer, 0) + volume(box)
        for buffer, total in written.items():
            if total >= self.sizes[buffer]:  # all of it is new: what came before is ordered through these tasks
                self.history[buffer] = _History()
        for n, (reads, writes) in enumerate(accesses):
            for buffer, box in reads:
                if buffer not in self.fixed:
                    self._of(buffer).readers.add(box, first + n)
            for buffer, box in writes:
                self._of(buffer).writers.add(box, first + n)

    def _of(self, buffer: int) -> _History:
        found = self.history.get(buffer)
        if found is None:
            found = self.history[buffer] = _History()
        return found
