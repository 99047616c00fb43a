"""Races and coverage inside one memory: a sweep over its cells in an order that really happens.

Each cell keeps its last writer and, for each worker, the last task that has read it since. An access is ordered after
all that came before it in the sweep if it is ordered after those. Cells are a grid cut at the borders of all regions,
so the sweep costs about as much as there are accesses.

That conflicting accesses are ordered makes the result the same in every order; that they are ordered as their ops are
makes it the result of running the ops one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np

from onelaunch.check.access import COVERS
from onelaunch.check.access import NEEDS
from onelaunch.check.access import READ
from onelaunch.check.access import WRITE
from onelaunch.check.access import Via
from onelaunch.check.box import Box
from onelaunch.check.clock import Clocks
from onelaunch.check.findings import Findings

Where = tuple[slice, ...] | np.ndarray
A = TypeVar("A", bound=tuple[Any, ...])


class Cells:
    """The state of one memory during a sweep. ``name`` is what messages call it.

    Where several buffers share the memory, each step names its buffer, and what is read must have been written last
    through the same one.
    """

    def __init__(
        self, shape: tuple[int, ...], clocks: Clocks, findings: Findings, name: str, shared: bool = False
    ) -> None:
        self.clocks, self.findings, self.name = clocks, findings, name
        workers = clocks.at.shape[1]
        self.writer = np.full(shape, workers, dtype=np.int32)  # worker of the last writer; ``workers``: nobody
        self.place = np.full(shape, -1, dtype=np.int32)  # its place in that worker's queue
        self.readers = np.zeros((*shape, workers), dtype=np.int32)  # place + 1 of each worker's last reader
        self.filled = np.zeros(shape, dtype=bool)
        self.owner = np.full(shape, -1, dtype=np.int32)  # buffer of the last write
        self.written_in = np.full(shape, -1, dtype=np.int32)  # op of the last writer
        self.read_in = np.full(shape, -1, dtype=np.int32)  # highest op of the readers since
        self.shared = shared
        self.ordered = 0  # accesses found in order

    def step(self, task: int, where: Where, flags: int, buffer: int = -1) -> None:
        """One access: confirm its order, then note it. A task's reads come before its writes."""
        clocks = self.clocks
        worker, place = clocks.worker[task], clocks.place[task]
        now = clocks.now[task]
        if flags & (READ | WRITE):
            last = self.writer[where]
            late = now[last] <= self.place[where]
            if late.any():
                self._open(task, {(int(w), int(p)) for w, p in zip(last[late], self.place[where][late], strict=True)})
            self._in_turn(task, self.written_in[where], "written")
        if flags & NEEDS and not (self.filled[where].all() and (buffer < 0 or (self.owner[where] == buffer).all())):
            what = "nobody wrote" if not self.filled[where].all() else "another buffer has overwritten"
            self.findings.add("coverage", f"task {task} reads elements of {self.name} that {what}")
        if flags & WRITE:
            readers = self.readers[where]
            late = readers > now[:-1]
            if late.any():
                at = np.nonzero(late)
                self._open(task, {(int(w), int(p) - 1) for w, p in zip(at[-1], readers[at], strict=True)})
            self._in_turn(task, self.read_in[where], "read")
            self._once(task, where, worker, place)
            self.writer[where], self.place[where], self.readers[where] = worker, place, 0
            self.written_in[where], self.read_in[where] = clocks.op[task], -1
            if not flags & COVERS and buffer >= 0:
                self.owner[where] = np.where(self.owner[where] == buffer, buffer, -2)
        if flags & COVERS:
            self.filled[where] = True
            if buffer >= 0:
                self.owner[where] = buffer
        if flags & READ:
            self.readers[..., worker][where] = place + 1
            self.read_in[where] = np.maximum(self.read_in[where], clocks.op[task])
        self.ordered += 1

    def _in_turn(self, task: int, ops: np.ndarray, verb: str) -> None:
        """Within one buffer, what came before in the sweep must belong to an op that is not later."""
        if not self.shared and ops.max(initial=-1) > self.clocks.op[task]:
            self.findings.add(
                "order", f"task {task} of op {self.clocks.op[task]} touches {self.name} after it was {verb} by op "
                f"{ops.max()}"
            )  # fmt: skip

    def _once(self, task: int, where: Where, worker: int, place: int) -> None:
        """Tasks of one op do not write the same: the op alone would say which of them is the last."""
        own = (self.writer[where] == worker) & (self.place[where] == place)
        if not self.shared and ((self.written_in[where] == self.clocks.op[task]) & ~own).any():
            self.findings.add(
                "order", f"task {task} writes {self.name} where another task of op {self.clocks.op[task]} has written"
            )  # fmt: skip

    def _open(self, task: int, earlier: set[tuple[int, int]]) -> None:
        """Accesses that the clocks leave open: settle each, report what is not ordered."""
        for worker, place in sorted(earlier):
            other = self.clocks.program.queues[worker][place]
            if not self.clocks.before(other, task):
                self.findings.add("race", f"tasks {other} and {task} touch {self.name} in either order, one writes")


class Grid:
    """Cells of one buffer: intervals between the borders of all boxes, in each dimension.

    A dimension whose indices data may pick gets one more axis: the elements that pick them, which are distinct. An
    access through elements a to b touches only those; any other access touches all.
    """

    def __init__(self, accesses: Sequence[tuple[int, Box, Via, int]], extents: Sequence[int]) -> None:
        self._cuts: list[dict[int, int]] = []
        for d, n in enumerate(extents):
            borders = {0, n}.union(*(box[d] for _, box, _, _ in accesses))
            self._cuts.append({b: i for i, b in enumerate(sorted(borders))})
        picked = {(d, v[0]) for _, _, via, _ in accesses for d, v in enumerate(via) if v is not None}
        self._picks: list[tuple[int, int, dict[int, int]]] = []
        for d, buffer in sorted(picked):
            borders = {x for _, _, via, _ in accesses if (v := via[d]) is not None and v[0] == buffer for x in v[1:]}
            self._picks.append((d, buffer, {b: i for i, b in enumerate(sorted(borders))}))
        sizes = [max(len(c) - 1, 0) for c in self._cuts]
        self.shape = (*sizes, *(len(c) for _, _, c in self._picks))  # one more than intervals: picked by no element
        self._memo: dict[tuple[Box, Via], tuple[slice, ...]] = {}

    def where(self, box: Box, via: Via) -> tuple[slice, ...]:
        """The cells of a box."""
        found = self._memo.get((box, via))
        if found is None:
            slices = [slice(c[lo], c[hi]) for c, (lo, hi) in zip(self._cuts, box, strict=True)]
            for d, buffer, cuts in self._picks:
                v = via[d]
                slices.append(slice(cuts[v[1]], cuts[v[2]]) if v is not None and v[0] == buffer else slice(None))
            found = self._memo[box, via] = tuple(slices)
        return found

    def whole(self, extents: Sequence[int]) -> tuple[slice, ...]:
        """All cells of the buffer."""
        return self.where(tuple((0, n) for n in extents), (None,) * len(extents))


def sweep(
    accesses: Sequence[tuple[int, Box, Via, int]], extents: Sequence[int], role: tuple[bool, bool], clocks: Clocks,
    findings: Findings, name: str,
) -> int:  # fmt: skip
    """Sweep one buffer. ``role``: (its first contents count as written, all of it must be written at the end).

    Returns the number of accesses looked at.
    """
    grid = Grid(accesses, extents)
    cells = Cells(grid.shape, clocks, findings, name)
    if role[0]:
        cells.filled[...] = True
    for task, box, via, flags in order(accesses, clocks):
        cells.step(task, grid.where(box, via), flags)
    if role[1] and not cells.filled[grid.whole(extents)].all():
        findings.add("coverage", f"not every element of output {name} is written")
    return cells.ordered


def order(accesses: Sequence[A], clocks: Clocks) -> list[A]:
    """Accesses (task, ..., flags) in the order of the sweep: by task, reads before writes before what is certain."""
    return sorted(accesses, key=lambda a: (clocks.rank[a[0]], a[-1] & (WRITE | COVERS)))
