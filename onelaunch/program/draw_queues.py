"""The picture of the queues: what each worker does when, as far as a simple estimate of each task's cost can tell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.program.program import Task
from onelaunch.program.program import maximum
from onelaunch.program.svg import FILL
from onelaunch.program.svg import PALE
from onelaunch.program.svg import WAIT
from onelaunch.program.svg import kinds_of
from onelaunch.program.svg import legend
from onelaunch.program.svg import moved
from onelaunch.program.svg import picture
from onelaunch.program.svg import summary
from onelaunch.program.svg import text
from onelaunch.program.svg import title
from onelaunch.program.svg import used_kinds

LEFT, TOP, WIDTH = 64, 84, 1500  # pixels
BAR = 6.0  # pixels that a task should have on average
MOST = 12  # strips that the time is cut into

# Nanoseconds of one worker, of the order of a CPU core: the picture shows proportions, not a prediction.
TASK, DEPENDENCY, BYTE, PRODUCT = 100.0, 300.0, 0.1, 0.06


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """One task's time on its worker, in estimated nanoseconds."""

    task: int
    idle: float  # when the worker became free
    start: float
    end: float


def draw_queues(program: Program) -> str:
    """Each worker's tasks as bars along the time, coloured by kind of op; red lines where it waits for an event.

    A long program's time is cut into strips that stand below each other.
    """
    slots = simulate(program)
    total = max((s.end for queue in slots for s in queue), default=0.0) or 1.0
    longest = max(map(len, slots), default=0)
    strips = max(1, min(MOST, math.ceil(longest * BAR / WIDTH)))
    high = max(4.0, min(22.0, 900 / max(len(slots), 1)))
    strip = len(slots) * high + 30
    kinds = kinds_of(program)
    styles = "".join(f".{k.value}{{fill:{FILL[k]}}}" for k in Kind)
    busy = sum(s.end - s.start for queue in slots for s in queue) / (total * max(len(slots), 1))
    body = [
        text(16, 26, summary(program), 14, more="font-weight='600'"),
        text(
            16,
            46,
            f"estimated: {total / 1000:,.0f} us, workers busy {busy:.0%} (proportions, not a prediction)",
            11,
            PALE,
        ),
        *legend(16, 68, used_kinds(program), waits=True),
    ]
    for number in range(strips):
        body += _strip(program, slots, kinds, (number * total / strips, total / strips), TOP + number * strip, high)
    styles += f"rect{{stroke:#fff;stroke-width:.4}}.w{{stroke:{WAIT};stroke-width:{min(2.0, high / 3):.1f}}}"
    return picture(LEFT + WIDTH + 16, TOP + strips * strip + 8, body, styles)


def _strip(
    program: Program, slots: Sequence[Sequence[Slot]], kinds: Sequence[Kind], window: tuple[float, float], y: float,
    high: float,
) -> list[str]:  # fmt: skip
    begin, length = window
    scale = WIDTH / length
    body = []
    for worker, queue in enumerate(slots):
        top = y + worker * high
        if high >= 9 or worker % 10 == 0:
            body.append(text(LEFT - 8, top + high / 2 + 3.5, str(worker), min(10.0, high + 3), PALE, "end"))
        for s in queue:
            if s.end <= begin or s.idle >= begin + length:
                continue
            idle, start, end = (
                LEFT + (min(max(t, begin), begin + length) - begin) * scale for t in (s.idle, s.start, s.end)
            )
            if start - idle > 0.4:
                middle = top + high / 2
                body.append(f"<path class='w' d='M{idle:.1f} {middle:.1f}H{start:.1f}'/>")
            if end > start:
                body.append(_bar(program, s, worker, kinds, (start, top, end - start, high - 1)))
    foot = y + len(slots) * high + 11
    body.append(text(LEFT, foot, f"{begin / 1000:,.0f} us", 9, PALE))
    body.append(text(LEFT + WIDTH, foot, f"{(begin + length) / 1000:,.0f} us", 9, PALE, "end"))
    return body


def _bar(program: Program, s: Slot, worker: int, kinds: Sequence[Kind], box: tuple[float, float, float, float]) -> str:
    task = program.tasks[s.task]
    tile = " ".join(f"{low}:{high}" for low, high in task.tile)
    hover = f"task {s.task}, worker {worker}\n{program.ops[task.op]}\ntile {tile}"
    if task.waits:
        hover += "\nwaits " + ", ".join(f"{event}>={value}" for event, value in task.waits)
    x, y, width, high = box
    return (
        f"<rect class='{kinds[task.op].value}' x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{high:.1f}'>"
        f"{title(hover)}</rect>"
    )


def simulate(program: Program) -> list[list[Slot]]:
    """When each worker would run its tasks, by their estimated costs; what can never run is left out."""
    heads, free = [0] * len(program.queues), [0.0] * len(program.queues)
    signalled: list[list[float]] = [[] for _ in program.events]
    slots: list[list[Slot]] = [[] for _ in program.queues]
    waiting: dict[tuple[int, int], list[int]] = {}  # (event, value) -> workers
    ready = list(range(len(program.queues)))
    while ready:
        worker = ready.pop()
        queue = program.queues[worker]
        while heads[worker] < len(queue):
            number = queue[heads[worker]]
            task = program.tasks[number]
            missing = next(((e, value) for e, value in task.waits if len(signalled[e]) < value), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(worker)
                break
            known = [sorted(signalled[e])[value - 1] + DEPENDENCY for e, value in task.waits if value > 0]
            start = max([free[worker], *known])
            end = start + cost(program, task)
            slots[worker].append(Slot(number, free[worker], start, end))
            free[worker] = end
            heads[worker] += 1
            for event in task.signals:
                signalled[event].append(end)
                ready += waiting.pop((event, len(signalled[event])), [])
    return slots


def cost(program: Program, task: Task) -> float:
    """Estimated nanoseconds of a task: what it moves, and its multiplications."""
    nest = program.kernels[task.kernel].nest
    inner = sum(maximum(c.var.args[0]) for c in nest.contractions)
    if nest.attention is not None:
        inner = 2 * maximum(nest.attention.key.args[0])
    points = math.prod(max(high - low, 0) for low, high in task.tile)
    return TASK + BYTE * moved(program, task) + PRODUCT * points * inner
