"""The critical path in words: each step with what let it go, how long until it began, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.program.program import Program
from onelaunch.program.svg import PALE
from onelaunch.program.svg import fit
from onelaunch.program.svg import text
from onelaunch.program.timeline import Cause
from onelaunch.program.timeline import Step
from onelaunch.program.usage import op_name

LINE = 12  # pixels of a line
LISTED, COLUMNS = 480, 2  # steps that are written out, and side by side


def path_height(path: Sequence[Step]) -> float:
    """Pixels that ``draw_path`` takes."""
    return (-(-min(len(path), LISTED) // COLUMNS) + 2) * LINE


def draw_path(program: Program, path: Sequence[Step], x: float, y: float, width: float) -> Iterator[str]:
    """Columns of lines below a heading at ``y``."""
    heading = "critical path: after what, how long until it began, and how long it took"
    yield text(x, y, heading, 11, more="font-weight='600'")
    rows, wide = -(-min(len(path), LISTED) // COLUMNS), width / COLUMNS
    for number, step in enumerate(path[:LISTED]):
        left, at = x + number // rows * wide, y + (number % rows + 1) * LINE + 2
        name = op_name(program.ops[program.tasks[step.task].op])
        line = f"{step.task} {name} ← {cause_of(program, path, number)}"
        yield text(left, at, fit(line, wide - 116, 9), 9)
        yield text(left + wide - 20, at, f"+{step.gap / 1e3:.2f}, {step.run / 1e3:.2f} us", 9, anchor="end")
    if len(path) > LISTED:
        yield text(x, y + (rows + 1) * LINE + 2, f"and {len(path) - LISTED} more", 9, PALE)


def cause_of(program: Program, path: Sequence[Step], number: int) -> str:
    """``event 3 at 2 of 2 (task 7, rows norm)``: the event, how much of it, and the task that signalled it last."""
    step = path[number]
    if number == 0 or step.cause is Cause.LAUNCH:
        return "launch"
    before = path[number - 1].task
    if step.event is None:
        return f"task {before} before it"
    event, value = step.event
    signaller = op_name(program.ops[program.tasks[before].op])
    return f"event {event} at {value} of {program.events[event].total} (task {before}, {signaller})"
