"""A stretch of a launch: workers down, time across, colour by kernel, waiting in red, the critical path framed.

Above the workers is a lane for the critical path alone, with names where there is room.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from onelaunch.graph.nest import Kind
from onelaunch.program.draw_path import cause_of
from onelaunch.program.svg import INK
from onelaunch.program.svg import PALE
from onelaunch.program.svg import WAIT
from onelaunch.program.svg import fit
from onelaunch.program.svg import size
from onelaunch.program.svg import text
from onelaunch.program.svg import title
from onelaunch.program.timeline import Slice
from onelaunch.program.timeline import Step
from onelaunch.program.timeline import Timeline
from onelaunch.program.traffic import Meter
from onelaunch.program.usage import op_name

LEFT, WIDTH = 64, 1500  # pixels
LANE, FOOT = 17, 19  # pixels of the critical path's lane, and of the times below
LEAST, NAMED = 0.3, 22.0  # pixels of the narrowest bar, and of one that has room for a name


@dataclass(frozen=True)
class Lanes:
    """What is drawn: ``begin`` and ``length`` in nanoseconds of the launch, ``high`` in pixels a worker.

    ``hover``: each task has a text of its own. Without, the picture of many thousands of tasks stays small.
    """

    timeline: Timeline
    path: Sequence[Step]
    begin: float
    length: float
    high: float
    hover: bool

    @property
    def height(self) -> float:
        """Pixels in all."""
        return LANE + len(self.timeline.program.queues) * self.high + FOOT

    def style(self, name: str) -> str:
        """Rules for what lies in the group ``name``: bars are lines as wide as a worker's row."""
        thick, thin = max(self.high - 1, self.high * 0.7), min(1.2, self.high / 5)
        return f".{name} path{{stroke-width:{thick:.1f}}}.{name} .w{{stroke:{WAIT};stroke-width:{thin:.1f}}}"

    def draw(self, y: float, name: str) -> Iterator[str]:
        """The elements, from ``y`` down."""
        yield f"<g class='{name}'>"
        yield from self._lane(y)
        top = y + LANE
        for worker, queue in enumerate(self.timeline.queues()):
            yield from self._worker(worker, [s for s in queue if self._shows(s)], top)
        yield "</g>"
        yield from self._frames(top)
        yield from self._arrows(top)
        foot = top + len(self.timeline.program.queues) * self.high + 11
        yield text(LEFT, foot, f"{self.begin / 1e3:,.1f} us", 9, PALE)
        yield text(LEFT + WIDTH, foot, f"{(self.begin + self.length) / 1e3:,.1f} us", 9, PALE, "end")

    def place(self, moment: float) -> float:
        """Where on the page a moment of the clock is, cut to the stretch."""
        inside = min(max(moment - self.timeline.begin - self.begin, 0.0), self.length)
        return LEFT + inside * WIDTH / self.length

    def _shows(self, s: Slice) -> bool:
        begin = self.timeline.begin + self.begin
        return s.ended > begin and s.arrived < begin + self.length

    def _worker(self, worker: int, queue: Sequence[Slice], top: float) -> Iterator[str]:
        y = top + worker * self.high
        if self.high >= 9 or worker % 10 == 0:
            yield text(LEFT - 8, y + self.high / 2 + 3.5, str(worker), min(10, round(self.high) + 3), PALE, "end")
        middle = y + self.high / 2
        yield f"<g id='worker-{worker}-{top:.0f}'>"
        waits = [(self.place(s.arrived), self.place(s.began)) for s in queue]
        if shown := "".join(f"M{a:.1f} {middle:.1f}H{b:.1f}" for a, b in waits if b - a > 0.4):
            yield f"<path class='w' d='{shown}'/>"
        yield from self._bars(queue, middle) if self.hover else self._plain(queue, middle)
        yield "</g>"

    def _bars(self, queue: Sequence[Slice], y: float) -> Iterator[str]:
        meter = Meter(self.timeline.program)
        for s in queue:
            if line := self._line(s, y):
                kernel = self.timeline.program.tasks[s.task].kernel
                yield f"<path class='k{kernel}' d='{line}'>{title(self._said(s, meter))}</path>"

    def _plain(self, queue: Sequence[Slice], y: float) -> Iterator[str]:
        """One element a kernel."""
        lines: dict[int, str] = {}
        for s in queue:
            kernel = self.timeline.program.tasks[s.task].kernel
            lines[kernel] = lines.get(kernel, "") + self._line(s, y)
        yield from (f"<path class='k{kernel}' d='{line}'/>" for kernel, line in lines.items() if line)

    def _line(self, s: Slice, y: float) -> str:
        began, ended = self.place(s.began), self.place(s.ended)
        if ended <= began:
            return ""
        gap = 0.4 if ended - began > 2 else 0.0  # between neighbours
        return f"M{began:.1f} {y:.1f}h{max(ended - began - gap, LEAST):.1f}"

    def _said(self, s: Slice, meter: Meter) -> str:
        program, task = self.timeline.program, self.timeline.program.tasks[s.task]
        nbytes, taken = meter.of(s.task).nbytes, s.ended - s.began
        said = (
            f"task {s.task}, worker {s.worker}\n{program.ops[task.op]}\n"
            f"{' '.join(f'{low}:{high}' for low, high in task.tile)}\n"
            f"began at {(s.began - self.timeline.begin) / 1e3:.2f} us, took {taken / 1e3:.2f}, waited "
            f"{(s.began - s.arrived) / 1e3:.2f}\n{size(nbytes)}, {nbytes / taken if taken else 0:.1f} GB/s"
        )
        if task.waits:
            said += "\nawaited " + ", ".join(f"event {e} at {v} of {program.events[e].total}" for e, v in task.waits)
        return said

    def _lane(self, y: float) -> Iterator[str]:
        """The critical path as one lane: each step after the time until it began."""
        yield text(LEFT - 8, y + 10, "path", 9, PALE, "end")
        program, middle, at = self.timeline.program, y + 7, float(self.timeline.begin)
        for number, step in enumerate(self.path):
            came, began, ended = self.place(at), self.place(at + step.gap), self.place(at + step.gap + step.run)
            at += step.gap + step.run
            if began - came > 0.3:
                yield f"<path class='w' d='M{came:.1f} {middle}H{began:.1f}'/>"
            if ended - began <= LEAST:
                continue
            task = program.tasks[step.task]
            name = op_name(program.ops[task.op])
            hover = f"{step.task} {name} ← {cause_of(program, self.path, number)}"
            wide = f"M{began:.1f} {middle}h{ended - began:.1f}"
            yield f"<path class='k{task.kernel} l' d='{wide}'>{title(hover)}</path>"
            if ended - began >= NAMED:
                kind, *words = name.split()
                short = words[0] if kind == Kind.LINEAR.value and words else kind
                yield text(began + 2, y + 10, fit(short, ended - began - 3, 8), 8)

    def _frames(self, top: float) -> Iterator[str]:
        thin = " n" if self.high < 4 else ""
        for s in (self.timeline.slices[step.task] for step in self.path):
            began, ended = self.place(s.began), self.place(s.ended)
            if ended > began:
                y = top + s.worker * self.high
                place = f"x='{began:.1f}' y='{y:.1f}' width='{ended - began:.1f}' height='{self.high:.1f}'"
                yield f"<rect class='c{thin}' {place}/>"

    def _arrows(self, top: float) -> Iterator[str]:
        """From the signal to the task that it let go; they cross many workers and are left out of small rows."""
        if self.high < 4:
            return
        for number, (a, b) in enumerate(itertools.pairwise(self.path), 1):
            tail, head = self.timeline.slices[a.task], self.timeline.slices[b.task]
            if b.event is None or not 0 <= head.began - self.timeline.begin - self.begin < self.length:
                continue
            x1, y1 = self.place(tail.ended), top + (tail.worker + 0.5) * self.high
            x2, y2 = self.place(head.began), top + (head.worker + 0.5) * self.high
            hover = title(cause_of(self.timeline.program, self.path, number))
            yield f"<path class='p' d='M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}'>{hover}</path>"


STYLE = (
    f"path{{fill:none}}.l.l{{stroke-width:14}}.c{{fill:none;stroke:{INK};stroke-width:1}}.c.n{{stroke-width:.6}}"
    f".p{{stroke:{INK};stroke-width:.8;stroke-dasharray:2 1}}"
)
