"""Accesses: what each task declares, confirmed by its footprint, as flat records for the sweeps.

The race sweep works on declared regions, which hold the footprints; coverage works on footprints: what is read must
have been written, and what is written for certain counts as written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from onelaunch.check import box as boxes
from onelaunch.check.box import Box
from onelaunch.check.findings import Findings
from onelaunch.check.footprint import Footprint
from onelaunch.check.footprint import Touch
from onelaunch.check.footprint import footprint
from onelaunch.check.memory import Memory
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Task

READ, WRITE, NEEDS, COVERS = 1, 2, 4, 8  # may read, may write; surely reads, surely writes the whole box
Via = tuple[tuple[int, int, int] | None, ...]  # a dimension: (buffer, first, last + 1) that pick its indices
Records = dict[tuple[int, Box, Via], int]


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """A declared region in flat form."""

    box: Box
    via: Via

    @property
    def picked(self) -> bool:
        """Whether data pick some index."""
        return any(v is not None for v in self.via)


class Accesses:
    """All accesses to buffers that some task writes: ``of[buffer]`` is a list of (task, box, via, flags)."""

    def __init__(self, program: Program, memory: Memory, findings: Findings) -> None:
        self.program, self.memory, self.findings = program, memory, findings
        self.of: dict[int, list[tuple[int, Box, Via, int]]] = {}
        self.regions = 0
        self.footprints: dict[tuple[int, tuple[tuple[int, int], ...]], Footprint] = {}
        self.written = {r.buffer for t in program.tasks for r in t.writes}
        self._distinct = {a.buffer for a in program.axioms}
        self._flat: dict[int, Declared] = {}
        self._reported: set[tuple[int, tuple[tuple[int, int], ...]]] = set()
        for number, task in enumerate(program.tasks):
            self._task(number, task)

    def _task(self, number: int, task: Task) -> None:
        key = (task.kernel, task.tile)
        found = self.footprints.get(key)
        if found is None:
            found = self.footprints[key] = footprint(self.program.kernels[task.kernel], task.tile)
        if found.faults and key not in self._reported:
            self._reported.add(key)
            for fault in found.faults:
                self.findings.add("footprint", f"task {number}: {fault}")
        records: Records = {}
        reads = self._declared(task.reads, READ, records)
        writes = self._declared(task.writes, WRITE, records)
        for touch in found.reads:
            self._touch(number, task, touch, reads, NEEDS, records)
        if found.write is not None:
            self._touch(number, task, found.write, writes, COVERS if found.covers else 0, records)
            if any(task.operands[t.operand] in self.written for t in found.reads):
                self._in_place(number, task, found)
        for (buffer, box, via), flags in records.items():
            if not boxes.empty(box):
                self.of.setdefault(buffer, []).append((number, box, via, flags))

    def _declared(self, regions: Sequence[Region], flag: int, records: Records) -> dict[int, list[Declared]]:
        """The regions by buffer; those of memory that is written become records."""
        table: dict[int, list[Declared]] = {}
        for r in regions:
            flat = self._flat.get(id(r))
            if flat is None:
                flat = self._flat[id(r)] = Declared(tuple((s.low, s.high) for s in r.box), tuple(s.via for s in r.box))
            table.setdefault(r.buffer, []).append(flat)
            if r.buffer in self.written:
                key = (r.buffer, flat.box, flat.via)
                records[key] = records.get(key, 0) | flag
        self.regions += len(regions)
        return table

    def _touch(
        self, number: int, task: Task, touch: Touch, declared: dict[int, list[Declared]], flag: int, records: Records
    ) -> None:
        buffer = task.operands[touch.operand]
        candidates = declared.get(buffer, ())
        for d in candidates:
            if boxes.inside(touch.box, d.box) and self._picks(task, touch, d):
                break
        else:
            if not boxes.covered(touch.box, [d.box for d in candidates if self._picks(task, touch, d)]):
                verb = "reads" if flag == NEEDS else "writes"
                what = _text(self.program, buffer, touch.box)
                self.findings.add("footprint", f"task {number} {verb} {what}, more than it declares")
        if not flag:
            return
        if buffer in self.written:
            via: Via = (None,) * len(touch.box)
            if flag == NEEDS:  # the same box as a declared region is the same record
                via = next((d.via for d in candidates if d.box == touch.box), via)
            records[buffer, touch.box, via] = records.get((buffer, touch.box, via), 0) | flag
        elif self.program.buffers[buffer].role in (Role.WORKSPACE, Role.OUTPUT):
            name = self.program.buffers[buffer].name
            self.findings.add("coverage", f"task {number} reads {name}, which no task writes")

    def _picks(self, task: Task, touch: Touch, declared: Declared) -> bool:
        """Whether indices that the region says are picked by data really are."""
        if not declared.picked:
            return True
        for pick, via in zip(touch.picks, declared.via, strict=True):
            if via is None:
                continue
            if pick is None or task.operands[pick[0]] != via[0] or not via[1] <= pick[1] <= pick[2] <= via[2]:
                return False
        return True

    def _in_place(self, number: int, task: Task, found: Footprint) -> None:
        """A tile may read what it overwrites only at the very index that it stores to, and only if it stores once."""
        write = found.write
        if write is None:
            return
        target = task.operands[write.operand]
        again = found.walked or any(task.operands[o] not in self._distinct for o in found.distinct)
        for touch in found.reads:
            source = task.operands[touch.operand]
            if source == target:
                wrong = (again or not touch.same) and boxes.meet(touch.box, write.box)
            else:
                wrong = source in self.written and self.memory.share((source, touch.box), (target, write.box))
            if wrong:
                here, there = _text(self.program, target, write.box), _text(self.program, source, touch.box)
                self.findings.add("race", f"task {number} writes {here} over {there}, which it reads")


def _text(program: Program, buffer: int, box: Box) -> str:
    return f"{program.buffers[buffer].name}[{', '.join(f'{lo}:{hi}' for lo, hi in box)}]"
