"""Small parts of SVG pictures: elements, colours by kind of op, a legend, and texts that fit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from html import escape

from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.program.program import Region
from onelaunch.program.program import Role
from onelaunch.program.program import Task
from onelaunch.program.program import maximum

FONT = "font-family='system-ui,Helvetica,Arial,sans-serif'"
FILL = {Kind.LINEAR: "#8fbce6", Kind.ATTEND: "#f5b971", Kind.ROWS: "#a9d8b4", Kind.SCATTER: "#d3b5e5"}
EDGE = {Kind.LINEAR: "#2f6ca3", Kind.ATTEND: "#b06a0c", Kind.ROWS: "#3c8a52", Kind.SCATTER: "#7b4a9c"}
WAIT = "#e8594f"
INK, PALE = "#1c2733", "#64748b"
_WIDTH = 0.56  # of an average character, in font sizes


def picture(width: float, height: float, body: Iterable[str], style: str = "") -> str:
    """A self-contained SVG document."""
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='0 0 {width:.0f} {height:.0f}' {FONT}>"
    )
    rules = f"<style>{style}</style>" if style else ""
    return "\n".join([head, rules, "<rect width='100%' height='100%' fill='#fff'/>", *body, "</svg>"]) + "\n"


def text(
    x: float, y: float, content: str, size: float = 11, fill: str = INK, anchor: str = "start", more: str = ""
) -> str:
    """One line of text; ``y`` is its baseline."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{fill}' text-anchor='{anchor}' {more}>"
        f"{escape(content)}</text>"
    )


def fit(content: str, width: float, size: float) -> str:
    """``content``, its middle left out where it is wider than ``width`` pixels."""
    most = max(int(width / (size * _WIDTH)), 3)
    if len(content) <= most:
        return content
    head = (most - 1) // 2
    return content[:head] + "…" + content[len(content) - (most - 1 - head) :]


def title(content: str) -> str:
    """What a pointer that rests on the element shows."""
    return f"<title>{escape(content)}</title>"


def legend(x: float, y: float, kinds: Iterable[Kind], waits: bool = False) -> list[str]:
    """Colours and their meaning, in one line."""
    found = []
    for kind in kinds:
        colours = f"fill='{FILL[kind]}' stroke='{EDGE[kind]}'"
        found.append(f"<rect x='{x:.1f}' y='{y - 9:.1f}' width='12' height='12' rx='2' {colours}/>")
        found.append(text(x + 17, y + 1, kind.value))
        x += 36 + len(kind.value) * 6.5
    if waits:
        found.append(f"<rect x='{x:.1f}' y='{y - 5:.1f}' width='12' height='4' fill='{WAIT}'/>")
        found.append(text(x + 17, y + 1, "waiting"))
    return found


def summary(program: Program) -> str:
    """One line of numbers about a program."""
    return (
        f"{program.name}: {len(program.ops)} ops, {len(program.tasks):,} tasks, {len(program.events):,} events, "
        f"{len(program.queues)} workers, {size(program.weight_bytes)} of weights, {size(program.workspace)} workspace"
    )


def size(nbytes: int) -> str:
    """Bytes for people."""
    value = float(nbytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def kinds_of(program: Program) -> list[Kind]:
    """The kind of every op: that of its first task's kernel (rows for an op without tasks)."""
    kinds = [k.nest.kind for k in program.kernels]
    found: dict[int, Kind] = {}
    for task in program.tasks:
        found.setdefault(task.op, kinds[task.kernel])
    return [found.get(n, Kind.ROWS) for n in range(len(program.ops))]


def used_kinds(program: Program) -> list[Kind]:
    """The kinds that occur, the most frequent first."""
    return [kind for kind, _ in Counter(kinds_of(program)).most_common()]


def elements(region: Region) -> int:
    """Elements of a region, at the symbols' maxima."""
    picked = (s.high - s.low if s.via is None else s.via[2] - s.via[1] for s in region.box)
    return math.prod(max(n, 0) for n in picked)


def moved(program: Program, task: Task, role: Role | None = None) -> int:
    """Bytes that a task reads (of weights, with ``role`` WEIGHT, and so on) and, without a role, writes.

    A pointwise task touches at most one element of a region for each point of its tile and its reductions: of an
    embedding, one row and not the table that it declares.
    """
    nest = program.kernels[task.kernel].nest
    most = None
    if nest.kind in (Kind.ROWS, Kind.SCATTER):
        inner = [maximum(e.args[0].args[0]) for root in nest.exprs() for e in walk(root) if e.op is Op.REDUCE]
        most = math.prod(max(high - low, 0) for low, high in task.tile) * max(inner, default=1)
    total = 0
    for r in task.reads if role is not None else (*task.reads, *task.writes):
        b = program.buffers[r.buffer]
        if role is None or b.role is role:
            total += b.dtype.itemsize * (elements(r) if most is None else min(elements(r), most))
    return total
