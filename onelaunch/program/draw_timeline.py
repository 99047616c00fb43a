"""The picture of a launch as it was: workers down, time across, colour by op, waiting in red, the critical path framed.

A table below it says what each kind of op took and how fast it moved its bytes; the list of the critical path follows,
with the event that let each task go.
"""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.program.svg import INK
from onelaunch.program.svg import PALE
from onelaunch.program.svg import WAIT
from onelaunch.program.svg import fit
from onelaunch.program.svg import picture
from onelaunch.program.svg import size
from onelaunch.program.svg import summary
from onelaunch.program.svg import text
from onelaunch.program.svg import title
from onelaunch.program.timeline import Cause
from onelaunch.program.timeline import Slice
from onelaunch.program.timeline import Step
from onelaunch.program.timeline import Timeline
from onelaunch.program.timeline import critical_path
from onelaunch.program.traffic import Meter
from onelaunch.program.usage import Usage
from onelaunch.program.usage import op_name
from onelaunch.program.usage import total
from onelaunch.program.usage import usage

LEFT, TOP, WIDTH = 64, 66, 1500  # pixels
BAR = 6.0  # pixels that a task should have on average
MOST = 12  # strips that the time is cut into
LINE = 15  # pixels of a line of the tables
LISTED, COLUMNS = 480, 3  # steps of the critical path that are written out, and side by side
HUES = {Kind.LINEAR: 0.585, Kind.ATTEND: 0.09, Kind.ROWS: 0.38, Kind.SCATTER: 0.78}
NARROW, LEAST = 3.0, 0.3  # pixels
SPREAD = 0.1  # of the hues of one kind


def draw_timeline(timeline: Timeline, note: str = "") -> str:
    """A self-contained SVG. ``note``: what is said of the launch besides its numbers, in one line."""
    program = timeline.program
    groups = usage(timeline)
    path = critical_path(timeline)
    colours = palette(groups)
    longest = max(map(len, program.queues), default=0)
    strips = max(1, min(MOST, math.ceil(longest * BAR / WIDTH)))
    high = max(4.0, min(22.0, 900 / max(len(program.queues), 1)))
    strip = len(program.queues) * high + 30
    sums = total(timeline, groups)
    run = sum(step.run for step in path)
    head = (
        f"{timeline.nanoseconds / 1e3:,.1f} us; all bytes {sums.bandwidth:,.1f} GB/s, weights alone "
        f"{sums.weight_bandwidth:,.1f} GB/s; critical path of {len(path)} tasks: {run / 1e3:,.1f} us running, "
        f"{(timeline.nanoseconds - run) / 1e3:,.1f} us from one to the next"
    )
    body = [text(16, 26, summary(program), 14, more="font-weight='600'"), text(16, 46, head, 12)]
    if note:
        body.append(text(16, 60, note, 10, PALE))
    length = max(timeline.nanoseconds, 1) / strips
    for number in range(strips):
        body += _strip(timeline, path, (number * length, length), TOP + number * strip, high)
    y = TOP + strips * strip + 20
    body += _table(timeline, groups, colours, y)
    y += (len(groups) + 3) * LINE + 20
    body += _path(timeline, path, y)
    rows = -(-min(len(path), LISTED) // COLUMNS) + 2
    styles = "".join(f".k{kernel}{{fill:{colour}}}" for kernel, colour in colours.items())
    styles += (
        f"rect{{stroke:#fff;stroke-width:.4}}.w{{stroke:{WAIT};stroke-width:{min(2.0, high / 3):.1f}}}"
        f".c{{stroke:{INK};stroke-width:1.2}}.n{{stroke-width:.25}}"
        f".p{{stroke:{INK};stroke-width:.8;fill:none;stroke-dasharray:2 1}}"
    )
    return picture(LEFT + WIDTH + 16, y + rows * LINE + 16, body, styles)


def palette(groups: Sequence[Usage]) -> dict[int, str]:
    """A colour a kernel: those of one kind of op have neighbouring hues, and differ in lightness too."""
    found = {}
    for kind, hue in HUES.items():
        own = [u.kernel for u in groups if u.kind is kind]
        for n, kernel in enumerate(own):
            part = n / max(len(own) - 1, 1) - 0.5 if len(own) > 1 else 0.0
            lightness = (0.74, 0.62, 0.82)[n % 3]
            red, green, blue = colorsys.hls_to_rgb((hue + part * SPREAD) % 1, lightness, 0.6)
            found[kernel] = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
    return found


def _strip(
    timeline: Timeline, path: Sequence[Step], window: tuple[float, float], y: float, high: float
) -> Iterator[str]:
    begin, length = window
    scale = WIDTH / length
    critical, meter = {step.task for step in path}, Meter(timeline.program)

    def place(moment: float) -> float:
        return LEFT + (min(max(moment - timeline.begin, begin), begin + length) - begin) * scale

    for worker, queue in enumerate(timeline.queues()):
        top = y + worker * high
        if high >= 9 or worker % 10 == 0:
            yield text(LEFT - 8, top + high / 2 + 3.5, str(worker), min(10.0, high + 3), PALE, "end")
        yield f"<g id='worker-{worker}-{y:.0f}'>"
        for s in queue:
            if s.ended - timeline.begin <= begin or s.arrived - timeline.begin >= begin + length:
                continue
            arrived, began, ended = place(s.arrived), place(s.began), place(s.ended)
            if began - arrived > 0.4:
                yield f"<path class='w' d='M{arrived:.1f} {top + high / 2:.1f}H{began:.1f}'/>"
            if ended > began:
                yield _bar(timeline, s, meter, s.task in critical, (began, top, ended - began, high - 1))
        yield "</g>"
    for a, b in itertools.pairwise(path):
        tail, head = timeline.slices[a.task], timeline.slices[b.task]
        if b.event is None or not begin <= head.began - timeline.begin < begin + length:
            continue
        x1, y1 = place(tail.ended), y + (tail.worker + 0.5) * high
        x2, y2 = place(head.began), y + (head.worker + 0.5) * high
        yield f"<path class='p' d='M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}'>{title(_cause(timeline.program, a, b))}</path>"
    foot = y + len(timeline.program.queues) * high + 11
    yield text(LEFT, foot, f"{begin / 1e3:,.1f} us", 9, PALE)
    yield text(LEFT + WIDTH, foot, f"{(begin + length) / 1e3:,.1f} us", 9, PALE, "end")


def _bar(timeline: Timeline, s: Slice, meter: Meter, critical: bool, box: tuple[float, float, float, float]) -> str:
    program, task = timeline.program, timeline.program.tasks[s.task]
    nbytes = meter.of(s.task).nbytes
    taken = s.ended - s.began
    hover = (
        f"task {s.task}, worker {s.worker}\n{program.ops[task.op]}\n"
        f"{' '.join(f'{low}:{high}' for low, high in task.tile)}\n"
        f"began at {(s.began - timeline.begin) / 1e3:.2f} us, took {taken / 1e3:.2f}, waited "
        f"{(s.began - s.arrived) / 1e3:.2f}\n{size(nbytes)}, {nbytes / taken if taken else 0:.1f} GB/s"
    )
    if task.waits:
        hover += "\nawaited " + ", ".join(f"event {e} at {v} of {program.events[e].total}" for e, v in task.waits)
    x, y, width, high = box
    # A frame of its usual width would be all there is of a narrow bar.
    names = f"k{task.kernel}" + " c" * critical + " n" * (width < NARROW)
    place = f"x='{x:.2f}' y='{y:.1f}' width='{max(width, LEAST):.2f}' height='{high:.1f}'"
    return f"<rect class='{names}' {place}>{title(hover)}</rect>"


def _table(timeline: Timeline, groups: Sequence[Usage], colours: dict[int, str], y: float) -> Iterator[str]:
    """One line a kind of op, which is the legend too."""
    columns = (360, 430, 520, 610, 700, 800, 900)
    heads = ("runs", "total us", "waiting us", "wall us", "weights", "bytes", "GB/s")
    yield text(40, y, "op", 11, more="font-weight='600'")
    for x, name in zip(columns, heads, strict=True):
        yield text(x, y, name, 11, anchor="end", more="font-weight='600'")
    sums = total(timeline, groups)
    lines = [(u.name, u.runs, u.busy, u.waiting, u.wall, u.weights, u.nbytes, u.bounded, u.bandwidth) for u in groups]
    lines.append(("all", len(timeline.slices), sums.busy, sums.waiting, sums.nanoseconds, sums.weights, sums.nbytes,
                  any(u.bounded for u in groups), sums.bandwidth))  # fmt: skip
    for number, (name, runs, busy, waiting, wall, weights, nbytes, bounded, speed) in enumerate(lines):
        y += LINE
        if number < len(groups):
            yield f"<rect x='16' y='{y - 10:.0f}' width='16' height='12' fill='{colours[groups[number].kernel]}'/>"
        yield text(40, y, fit(name, 260, 11))
        most = "≤ " if bounded else ""
        cells = (f"{runs:,}", *(f"{t / 1e3:,.1f}" for t in (busy, waiting, wall)), size(weights), most + size(nbytes),
                 most + f"{speed:,.1f}")  # fmt: skip
        for x, cell in zip(columns, cells, strict=True):
            yield text(x, y, cell, anchor="end")
    yield f"<path class='w' d='M930 {y - 4:.0f}H954'/>"
    yield text(960, y, "waiting; framed: the critical path; ≤: the most that run-time sizes allow", 11, PALE)


def _path(timeline: Timeline, path: Sequence[Step], y: float) -> Iterator[str]:
    """The steps of the critical path, with what let each one go."""
    yield text(16, y, "critical path: after what, how long until it began, and how long it took", 11,
               more="font-weight='600'")  # fmt: skip
    rows = -(-min(len(path), LISTED) // COLUMNS)
    wide = (LEFT + WIDTH) / COLUMNS
    for number, step in enumerate(path[:LISTED]):
        x, at = 16 + number // rows * wide, y + (number % rows + 1) * LINE
        cause = _cause(timeline.program, path[number - 1] if number else None, step)
        name = op_name(timeline.program.ops[timeline.program.tasks[step.task].op])
        line = f"{step.task} {name} ← {cause}: +{step.gap / 1e3:.2f}, {step.run / 1e3:.2f} us"
        yield text(x, at, fit(line, wide - 16, 9), 9)
    if len(path) > LISTED:
        yield text(16, y + (rows + 1) * LINE, f"and {len(path) - LISTED} more", 9, PALE)


def _cause(program: Program, before: Step | None, step: Step) -> str:
    """``event 3 at 2 of 2 (rows norm)``: the event, how much of it, and the op that signalled it last."""
    if before is None or step.cause is Cause.LAUNCH:
        return "launch"
    if step.event is None:
        return f"task {before.task} before it"
    event, value = step.event
    signaller = op_name(program.ops[program.tasks[before.task].op])
    return f"event {event} at {value} of {program.events[event].total} ({signaller}, task {before.task})"
