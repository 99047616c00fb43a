"""The picture of a launch as it was: workers down, time across, colour by op, waiting in red, the critical path framed.

A launch of many tasks is drawn twice: whole and small, and a stretch from its middle that is wide enough to be read.
Below, a table says what each kind of op took, how fast it moved its bytes, and its share of the critical path; the
steps of that path follow, with the event that let each one go.
"""

from __future__ import annotations

import colorsys
import math
import statistics
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.graph.nest import Kind
from onelaunch.program.draw_lanes import LEFT
from onelaunch.program.draw_lanes import STYLE
from onelaunch.program.draw_lanes import WIDTH
from onelaunch.program.draw_lanes import Lanes
from onelaunch.program.draw_path import draw_path
from onelaunch.program.draw_path import path_height
from onelaunch.program.svg import INK
from onelaunch.program.svg import PALE
from onelaunch.program.svg import WAIT
from onelaunch.program.svg import fit
from onelaunch.program.svg import picture
from onelaunch.program.svg import size
from onelaunch.program.svg import summary
from onelaunch.program.svg import text
from onelaunch.program.timeline import Step
from onelaunch.program.timeline import Timeline
from onelaunch.program.timeline import critical_path
from onelaunch.program.usage import Usage
from onelaunch.program.usage import total
from onelaunch.program.usage import usage

TOP, LINE = 70, 15  # pixels above the lanes, and of a line of the table
CROWDED = 6000  # tasks from which on a launch is drawn twice
BAR, MOST = 6.0, 12  # otherwise: pixels that a task should have on average, and strips that the time is cut into
STEP = 56.0  # pixels of a usual step of the critical path in the stretch that is enlarged
WHOLE, ROWS = 400.0, 900.0  # pixels for all workers of the small drawing, and of another one
HUES = {Kind.LINEAR: 0.585, Kind.ATTEND: 0.09, Kind.ROWS: 0.38, Kind.SCATTER: 0.78}
SPREAD = 0.1  # of the hues of one kind


def draw_timeline(timeline: Timeline, note: str = "") -> str:
    """A self-contained SVG. ``note``: what is said of the launch besides its numbers, in one line."""
    groups, path = usage(timeline), critical_path(timeline)
    colours = palette(groups)
    body = _heading(timeline, groups, path, note)
    styles = "".join(f".k{kernel}{{stroke:{colour}}}" for kernel, colour in colours.items())
    y = float(TOP)
    lanes = _lanes(timeline, path)
    for number, drawn in enumerate(lanes):
        body += drawn.draw(y, f"s{number}")
        styles += drawn.style(f"s{number}")
        if drawn.hover and not lanes[0].hover:
            body.append(_bracket(lanes[0], drawn))
        y += drawn.height
    y += 20
    body += _table(timeline, groups, path, colours, y)
    y += (len(groups) + 3) * LINE + 20
    body += draw_path(timeline.program, path, 16, y, LEFT + WIDTH - 16)
    return picture(LEFT + WIDTH + 16, y + path_height(path) + 16, body, styles + STYLE)


def _heading(timeline: Timeline, groups: Sequence[Usage], path: Sequence[Step], note: str) -> list[str]:
    sums, run = total(timeline, groups), sum(step.run for step in path)
    head = (
        f"{timeline.nanoseconds / 1e3:,.1f} us; all bytes {sums.bandwidth:,.1f} GB/s, weights alone "
        f"{sums.weight_bandwidth:,.1f} GB/s; critical path of {len(path)} tasks: {run / 1e3:,.1f} us running, "
        f"{(timeline.nanoseconds - run) / 1e3:,.1f} us from one to the next"
    )
    lines = [text(16, 26, summary(timeline.program), 14, more="font-weight='600'"), text(16, 45, head, 12)]
    return [*lines, text(16, 60, note, 10, PALE)] if note else lines


def _lanes(timeline: Timeline, path: Sequence[Step]) -> list[Lanes]:
    """One below the other."""
    workers = max(len(timeline.program.queues), 1)
    whole, high = float(max(timeline.nanoseconds, 1)), max(4.0, min(22.0, ROWS / workers))
    if len(timeline.slices) > CROWDED:
        usual = statistics.median(step.gap + step.run for step in path)
        length = min(whole, max(usual * WIDTH / STEP, 1.0))
        small = max(2.0, min(22.0, WHOLE / workers))
        return [
            Lanes(timeline, path, 0.0, whole, small, False),
            Lanes(timeline, path, (whole - length) / 2, length, high, True),
        ]
    longest = max(map(len, timeline.program.queues), default=0)
    strips = max(1, min(MOST, math.ceil(longest * BAR / WIDTH)))
    return [Lanes(timeline, path, n * whole / strips, whole / strips, high, True) for n in range(strips)]


def _bracket(whole: Lanes, part: Lanes) -> str:
    """What of the small drawing is enlarged below it."""
    first, last = (whole.place(whole.timeline.begin + t) for t in (part.begin, part.begin + part.length))
    foot = TOP + whole.height - 14
    return f"<path d='M{first:.1f} {foot - 5:.1f}v6H{last:.1f}v-6' stroke='{INK}' stroke-width='1.5'/>"


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


def _table(
    timeline: Timeline, groups: Sequence[Usage], path: Sequence[Step], colours: dict[int, str], y: float
) -> Iterator[str]:
    """One line a kind of op, which is the legend too."""
    columns = (360, 430, 520, 610, 700, 800, 900, 990, 1080, 1190)
    heads = ("runs", "total us", "waiting us", "wall us", "weights", "bytes", "GB/s", "on path", "path us", "gaps us")
    yield text(40, y, "op", 11, more="font-weight='600'")
    for x, name in zip(columns, heads, strict=True):
        yield text(x, y, name, 11, anchor="end", more="font-weight='600'")
    sums, tasks = total(timeline, groups), timeline.program.tasks
    lines = [
        (u.name, u.runs, u.busy, u.waiting, u.wall, u.weights, u.nbytes, u.bounded, u.bandwidth,
         [step for step in path if tasks[step.task].kernel == u.kernel])
        for u in groups
    ]  # fmt: skip
    lines.append(("all", len(timeline.slices), sums.busy, sums.waiting, sums.nanoseconds, sums.weights, sums.nbytes,
                  any(u.bounded for u in groups), sums.bandwidth, [*path]))  # fmt: skip
    for number, (name, runs, busy, waiting, wall, weights, nbytes, bounded, speed, own) in enumerate(lines):
        y += LINE
        if number < len(groups):
            yield f"<rect x='16' y='{y - 10:.0f}' width='16' height='12' fill='{colours[groups[number].kernel]}'/>"
        yield text(40, y, fit(name, 260, 11))
        most = "≤ " if bounded else ""
        cells = (
            f"{runs:,}", *(f"{t / 1e3:,.1f}" for t in (busy, waiting, wall)), size(weights), most + size(nbytes),
            most + f"{speed:,.1f}", f"{len(own):,}",
            *(f"{t / 1e3:,.1f}" for t in (sum(s.run for s in own), sum(s.gap for s in own))),
        )  # fmt: skip
        for x, cell in zip(columns, cells, strict=True):
            yield text(x, y, cell, anchor="end")
    y += LINE
    yield f"<path d='M16 {y - 4:.0f}h16' stroke='{WAIT}' stroke-width='2'/>"
    yield text(40, y, "waiting; framed: the critical path; ≤: the most that run-time sizes allow", 11, PALE)
