"""``onelaunch trace``: what every worker of a launch did when, as a picture, a trace file and a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from onelaunch.cli import conversation
from onelaunch.cli.artifact import MadeUp
from onelaunch.cli.generate import need
from onelaunch.errors import UserError
from onelaunch.frontend.options import TARGETS

if TYPE_CHECKING:
    from onelaunch.program.timeline import Timeline

WARM_UP = 2  # launches that are not recorded: the first compiles, the second meets cold caches
PROMPT = "Why is the sky blue?"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as it came from the command line."""

    prompts: list[str]
    model: str | None
    batch: Path | None
    raw: bool
    program: Path | None
    target: str
    steps: int
    out: Path
    as_json: bool


def run(request: Request) -> None:
    """Do it. Everything that can be refused without loading the model is refused first."""
    chats = _check(request)
    launches = _of_model(request, chats) if request.program is None else _of_program(request)
    _conclude(request, launches)


def _check(request: Request) -> list[list[conversation.Message]]:
    if request.target not in TARGETS:
        raise UserError(f"unknown target {request.target!r}; accepted: {', '.join(TARGETS)}")
    if request.steps < 1:
        raise UserError(f"steps {request.steps} is not accepted; it is a whole number from 1 up")
    if len(request.prompts) + (request.batch is not None) > 1:
        raise UserError("give one of PROMPT, --prompt and --batch, not several")
    if request.program is not None and (request.prompts or request.batch or request.model):
        raise UserError("--program takes no model and no prompt: its arguments are made up")
    if not request.out.parent.is_dir():
        raise UserError(f"the trace cannot be written to {request.out}: {request.out.parent} is not a folder")
    if request.batch is not None:
        return conversation.from_file(request.batch)
    return [conversation.from_prompt(request.prompts[0] if request.prompts else PROMPT)]


def _of_program(request: Request) -> list[Timeline]:
    """Launches of a saved program, on made-up arguments."""
    from onelaunch.program.file import load

    assert request.program is not None
    made_up = MadeUp(load(request.program), request.target)

    def launches() -> Iterator[int]:
        for number in range(WARM_UP + request.steps):
            made_up.launch()
            yield number

    return _record(launches(), lambda: [made_up.runner.executable])


def _of_model(request: Request, chats: list[list[conversation.Message]]) -> list[Timeline]:
    """Decode steps of a model."""
    need("trace", "rich", "cli")
    need("trace", "transformers", "models")
    from onelaunch.cli.place import load
    from onelaunch.cli.programs import executables_used
    from onelaunch.cli.programs import snapshot
    from onelaunch.cli.screen import Screen
    from onelaunch.models.generation import Generator

    screen = Screen()
    with screen.stage("Loading the model") as progress:
        loaded = load(request.model, request.target, progress)
    prompts = [conversation.encode(loaded.tokenizer, chat, request.raw) for chat in chats]
    before = snapshot()
    generator = Generator(loaded, options={"target": request.target})
    with ExitStack() as stages:
        stages.enter_context(screen.stage("Compiling the decode step, then recording"))
        return _record(generator.decode(prompts, WARM_UP + request.steps), lambda: executables_used(before))


def _record(steps: Iterator[int], executables: Callable[[], list[Any]]) -> list[Timeline]:
    """The launches of the largest program, one a step. ``steps`` makes one at each turn; ``executables``: what ran."""
    from onelaunch.runtime.recorder import Recorder

    recorder: Recorder | None = None
    found: list[Timeline] = []
    for number in steps:
        if recorder is not None and (timeline := recorder.take()) is not None:
            found.append(timeline)
        if number == WARM_UP - 1:
            used = executables()
            if not used:
                raise UserError("no program was launched: all of the model stays in torch; onelaunch.explain says why")
            recorder = Recorder(max(used, key=lambda e: len(e.program.tasks)))
    if not found:
        raise UserError("no launch was recorded: the program ran in no step after the first two")
    return found


def _conclude(request: Request, launches: list[Timeline]) -> None:
    """Write the files of the launch of median length, and print its table."""
    order = sorted(range(len(launches)), key=lambda n: launches[n].nanoseconds)
    shown = order[(len(order) - 1) // 2]
    timeline = launches[shown]
    fastest, slowest = (launches[n].nanoseconds / 1e3 for n in (order[0], order[-1]))
    note = (
        f"launch {shown + 1} of {len(launches)} recorded, the median of {fastest:,.1f} to {slowest:,.1f} us; "
        f"target {request.target}, {timeline.program.machine}"
    )
    files = write(timeline, request.out, note)
    if request.as_json:
        said = as_json(timeline) | {"launches_us": [t.nanoseconds / 1e3 for t in launches], "shown": shown}
        print(json.dumps(said | {"files": [str(file) for file in files]}, indent=1))
    else:
        print("\n".join([*table(timeline), note, *(f"written: {file}" for file in files)]))


def write(timeline: Timeline, out: Path, note: str = "") -> list[Path]:
    """Write ``<out>.json`` and ``<out>.svg``; returns the files. Raises UserError where the disk refuses."""
    from onelaunch.program.chrome_trace import chrome_trace
    from onelaunch.program.draw_timeline import draw_timeline

    base = out.with_suffix("") if out.suffix in (".svg", ".json") else out
    files = [base.with_name(base.name + suffix) for suffix in (".json", ".svg")]
    _write(files[0], json.dumps(chrome_trace(timeline)))
    _write(files[1], draw_timeline(timeline, note))
    return files


def _write(file: Path, content: str) -> None:
    try:
        file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the trace cannot be written to {file}: {error.strerror}") from None


def table(timeline: Timeline) -> Iterator[str]:
    """What each kind of op took, and the critical path against the launch."""
    from onelaunch.program.svg import size
    from onelaunch.program.timeline import critical_path
    from onelaunch.program.usage import total
    from onelaunch.program.usage import usage

    groups = usage(timeline)
    sums = total(timeline, groups)
    rows: list[tuple[str, ...]] = [("op kind", "runs", "total us", "waiting us", "wall us", "bytes", "GB/s")]
    for u in groups:
        most = "≤ " if u.bounded else ""
        rows.append((
            u.name, f"{u.runs:,}", *(f"{t / 1e3:,.1f}" for t in (u.busy, u.waiting, u.wall)), most + size(u.nbytes),
            f"{most}{u.bandwidth:,.1f}",
        ))  # fmt: skip
    most = "≤ " if any(u.bounded for u in groups) else ""
    times = (f"{t / 1e3:,.1f}" for t in (sums.busy, sums.waiting, sums.nanoseconds))
    rows.append(("all", f"{len(timeline.slices):,}", *times, most + size(sums.nbytes), f"{most}{sums.bandwidth:,.1f}"))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
    path = critical_path(timeline)
    run = sum(step.run for step in path)
    yield (
        f"critical path: {len(path)} tasks, {run / 1e3:,.1f} us running and {(sums.nanoseconds - run) / 1e3:,.1f} us "
        f"from one to the next, of a launch of {sums.nanoseconds / 1e3:,.1f} us"
    )
    yield f"weights: {size(sums.weights)}, {sums.weight_bandwidth:,.1f} GB/s over the whole launch"


def as_json(timeline: Timeline) -> dict[str, Any]:
    """The same as plain data; times in microseconds."""
    from onelaunch.program.timeline import critical_path
    from onelaunch.program.usage import total
    from onelaunch.program.usage import usage

    groups = usage(timeline)
    sums = total(timeline, groups)
    path = critical_path(timeline)
    return {
        "program": timeline.program.name,
        "machine": timeline.program.machine,
        "workers": len(timeline.program.queues),
        "launch_us": timeline.nanoseconds / 1e3,
        "ops": [
            {
                "name": u.name, "kind": u.kind.value, "runs": u.runs, "total_us": u.busy / 1e3,
                "waiting_us": u.waiting / 1e3, "wall_us": u.wall / 1e3, "weight_bytes": u.weights, "bytes": u.nbytes,
                "bytes_are_bound": u.bounded, "gigabytes_per_second": u.bandwidth,
            }
            for u in groups
        ],
        "total": asdict(sums) | {"gigabytes_per_second": sums.bandwidth, "weight_GB/s": sums.weight_bandwidth},
        "critical_path": {
            "tasks": len(path),
            "run_us": sum(step.run for step in path) / 1e3,
            "gap_us": sum(step.gap for step in path) / 1e3,
            "steps": [
                {
                    "task": step.task, "op": timeline.program.ops[timeline.program.tasks[step.task].op],
                    "after": step.cause.value, "event": step.event, "gap_us": step.gap / 1e3, "run_us": step.run / 1e3,
                }
                for step in path
            ],
        },
    }  # fmt: skip
