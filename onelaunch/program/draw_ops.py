"""The picture of ops and dependencies: one band a repetition, so that a model's layers stand below each other.

Within a band an op's column is its depth: every op stands right of those that it reads from. Edges to the next band run
from a box's lower side to a box's upper side; what comes from further above is named over the box that reads it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.program import Task
from onelaunch.program.svg import EDGE
from onelaunch.program.svg import FILL
from onelaunch.program.svg import PALE
from onelaunch.program.svg import fit
from onelaunch.program.svg import kinds_of
from onelaunch.program.svg import legend
from onelaunch.program.svg import moved
from onelaunch.program.svg import picture
from onelaunch.program.svg import size
from onelaunch.program.svg import summary
from onelaunch.program.svg import text
from onelaunch.program.svg import title
from onelaunch.program.svg import used_kinds

BOX, TALL = 118, 32  # pixels of a box
GAP, STEP = 26, 8  # between columns, between the boxes of a column
LEFT, TOP, BAND = 96, 64, 22  # margin for a band's name, for the head, between bands
WIDEST = 12  # ops in a band that repeats nothing


@dataclasses.dataclass(slots=True)
class _Box:
    x: float
    y: float
    band: int


def draw_ops(program: Program) -> str:
    """Ops, coloured by kind, and which op's results each one reads. Hovering shows tasks and bytes."""
    tasks: list[list[Task]] = [[] for _ in program.ops]
    for task in program.tasks:
        tasks[task.op].append(task)
    edges = dependencies(program, tasks)
    bands = find_bands(program, tasks)
    boxes, width, height = _place(bands, edges, len(program.ops))
    kinds = kinds_of(program)
    body = [text(16, 26, summary(program), 14, more="font-weight='600'"), *legend(16, 48, used_kinds(program))]
    for number, band in enumerate(bands):
        y = min(boxes[op].y for op in band)
        body.append(text(16, y + TALL / 2 + 4, fit(_band_name(program, band), LEFT - 24, 11), 11, PALE))
        if number:
            line = y - BAND / 2
            body.append(f"<path d='M16 {line:.0f}H{width - 16:.0f}' stroke='#e2e8f0' stroke-width='1'/>")
    body += [_edge(boxes[a], boxes[b]) for a, b in edges if boxes[b].band - boxes[a].band <= 1]
    body += _far(program, boxes, edges)
    body += [_box(program, op, boxes[op], kinds[op], tasks[op]) for op in range(len(program.ops))]
    style = ".e{fill:none;stroke:#94a3b8;stroke-width:1.1}.f{fill:none;stroke:#cbd5e1;stroke-width:1.1}"
    return picture(width, height, body, style)


def dependencies(program: Program, tasks: Sequence[Sequence[Task]]) -> list[tuple[int, int]]:
    """Pairs (writer, reader) of ops: the reader reads what the writer, the last one before it, has written."""
    writer: dict[int, int] = {}
    found: dict[tuple[int, int], None] = {}
    for op, own in enumerate(tasks):
        reads = {r.buffer for t in own for r in t.reads}
        found.update(((writer[b], op), None) for b in sorted(reads) if b in writer and writer[b] != op)
        writer.update((r.buffer, op) for t in own for r in t.writes)
    return list(found)


def find_bands(program: Program, tasks: Sequence[Sequence[Task]]) -> list[list[int]]:
    """The ops in order, cut where the longest repeated sequence of kernels begins anew."""
    kernels = [own[0].kernel if own else -1 for own in tasks]
    start, period, count = repetition(kernels)
    if count < 2:
        return _chunks(list(range(len(kernels))))
    start = _aligned(program, start, period, count, len(kernels))
    count = min(count, (len(kernels) - start) // period)
    bands = _chunks(list(range(start)))
    bands += [list(range(at, at + period)) for at in range(start, start + count * period, period)]
    return bands + _chunks(list(range(start + count * period, len(kernels))))


def repetition(items: Sequence[int]) -> tuple[int, int, int]:
    """``(start, period, count)`` of the repetition that covers most of ``items``; of several, the shortest period."""
    best, found = 0, (0, 1, 1)
    for period in range(3, len(items) // 2 + 1):
        run = 0
        for i in range(len(items) - period + 1):
            same = i + period < len(items) and items[i] == items[i + period]
            run = run + 1 if same else 0
            covered = (run // period + 1) * period if run >= period else 0
            if covered > best:
                best, found = covered, (i + 1 - run, period, run // period + 1)
    return found


def _aligned(program: Program, start: int, period: int, count: int, total: int) -> int:
    """The start, moved so that most bands hold ops of one numbered layer only."""

    def score(offset: int) -> int:
        at = range(start + offset, min(start + offset + (count - 1) * period, total - period + 1), period)
        return sum(len({_layer(program.ops[op]) for op in range(a, a + period)} - {""}) == 1 for a in at)

    return start + max(range(period), key=lambda offset: (score(offset), -offset))


def _layer(label: str) -> str:
    found = re.search(r"\.(\d+)\b", label)
    return found[1] if found else ""


def _chunks(ops: list[int]) -> list[list[int]]:
    return [ops[i : i + WIDEST] for i in range(0, len(ops), WIDEST)]


def _place(
    bands: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]], count: int
) -> tuple[list[_Box], float, float]:
    """A box for each op, and the picture's size."""
    before: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        before[b].append(a)
    boxes: dict[int, _Box] = {}
    y, widest = float(TOP), 0
    for number, band in enumerate(bands):
        column: dict[int, int] = {}
        stack: dict[int, int] = {}
        for op in band:
            column[op] = c = max((column[a] + 1 for a in before[op] if a in column), default=0)
            row = stack[c] = stack.get(c, -1) + 1
            boxes[op] = _Box(LEFT + c * (BOX + GAP), y + row * (TALL + STEP), number)
            widest = max(widest, c)
        y += (max(stack.values(), default=0) + 1) * (TALL + STEP) - STEP + BAND
    width = LEFT + (widest + 1) * (BOX + GAP) + 8
    return [boxes[op] for op in range(count)], max(width, 640), y + 8


def _edge(a: _Box, b: _Box) -> str:
    if a.band != b.band:
        x1, y1, x2, y2 = a.x + BOX / 2, a.y + TALL, b.x + BOX / 2, b.y
        return (
            f"<path class='f' d='M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + 24:.0f} {x2:.0f} {y2 - 24:.0f} {x2:.0f} {y2:.0f}'/>"
        )
    x1, y1, x2, y2 = a.x + BOX, a.y + TALL / 2, b.x, b.y + TALL / 2
    if x2 - x1 <= GAP + 1:
        middle = f"{(x1 + x2) / 2:.0f}"
        return f"<path class='e' d='M{x1:.0f} {y1:.0f}C{middle} {y1:.0f} {middle} {y2:.0f} {x2:.0f} {y2:.0f}'/>"
    over = min(a.y, b.y) - 9  # over what stands between
    up = f"M{x1:.0f} {y1 - 8:.0f}C{x1 + 14:.0f} {over:.0f} {x1 + 14:.0f} {over:.0f} {x1 + 28:.0f} {over:.0f}"
    down = f"H{x2 - 28:.0f}C{x2 - 14:.0f} {over:.0f} {x2 - 14:.0f} {over:.0f} {x2:.0f} {y2 - 8:.0f}"
    return f"<path class='e' d='{up}{down}'/>"


def _far(program: Program, boxes: Sequence[_Box], edges: Sequence[tuple[int, int]]) -> Iterator[str]:
    """The names of what an op reads from more than one band above it, over its box."""
    names: dict[int, list[str]] = {}
    for a, b in edges:
        if boxes[b].band - boxes[a].band > 1:
            names.setdefault(b, []).append(_name(program.ops[a], value=True))
    for op, found in names.items():
        at = boxes[op]
        line = fit("↓ " + ", ".join(found), BOX, 8)
        yield text(at.x + BOX - 3, at.y - 2, line, 8, PALE, "end")


def _box(program: Program, op: int, at: _Box, kind: Kind, tasks: Sequence[Task]) -> str:
    weights = sum(moved(program, t, Role.WEIGHT) for t in tasks)
    other = sum(moved(program, t) for t in tasks) - weights
    hover = (
        f"op {op}: {program.ops[op]}\n{len(tasks)} tasks on {_workers(program, op)} workers\n"
        f"weights {size(weights)}, all else read and written {size(other)}{_state(program, tasks)}"
    )
    count = f"{len(tasks)} task{'s' * (len(tasks) != 1)}"
    note = f"{count} · {size(weights)}" if weights else count
    colours = f"fill='{FILL[kind]}' stroke='{EDGE[kind]}'"
    middle = at.x + BOX / 2
    return (
        f"<g>{title(hover)}<rect x='{at.x:.0f}' y='{at.y:.0f}' width='{BOX}' height='{TALL}' rx='4' {colours}/>"
        f"{text(middle, at.y + 14, fit(_name(program.ops[op]), BOX - 8, 10.5), 10.5, anchor='middle')}"
        f"{text(middle, at.y + 26, note, 9, '#334155', 'middle')}</g>"
    )


def _workers(program: Program, op: int) -> int:
    return sum(any(program.tasks[t].op == op for t in queue) for queue in program.queues)


def _state(program: Program, tasks: Sequence[Task]) -> str:
    written = {r.buffer for t in tasks for r in t.writes}
    names = [program.buffers[b].name for b in sorted(written) if program.buffers[b].role is Role.STATE]
    return f"\nin place: {', '.join(names)}" if names else ""


def _name(label: str, value: bool = False) -> str:
    """What tells ops apart: the end of a module's path (without its layer), or the value's name."""
    words = label.split()
    paths = [w for w in words[2:] if "." in w and ".py" not in w]
    last = paths[-1].rsplit(".", 1)[-1] if paths else ""
    name = words[1] if len(words) > 1 else label
    if value or not last or last.isdigit():
        return name
    return last if words[0] == "linear" or len(last) > 11 else f"{last} {words[0]}"


def _band_name(program: Program, band: Sequence[int]) -> str:
    layers = {m[1]: None for op in band if (m := re.search(r"(\w+\.\d+)\b", program.ops[op]))}
    return next(iter(layers)) if len(layers) == 1 else f"ops {band[0]}–{band[-1]}"
