"""A timeline in the Trace Event Format, which chrome://tracing and ui.perfetto.dev open: one track a worker."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from onelaunch.program.program import Program
from onelaunch.program.timeline import Step
from onelaunch.program.timeline import Timeline
from onelaunch.program.timeline import critical_path
from onelaunch.program.traffic import Meter
from onelaunch.program.usage import op_name

WORKERS, PATH = 0, 1  # processes of the trace


def chrome_trace(timeline: Timeline) -> dict[str, Any]:
    """The JSON object. Tasks are slices named by their op; waiting is a slice of its own before the task; the critical
    path is a track of its own, and arrows between the tasks. Times are microseconds from the launch's beginning.
    """
    path = critical_path(timeline)
    return {
        "traceEvents": [*_names(timeline.program), *_tasks(timeline, path), *_path(timeline, path)],
        "displayTimeUnit": "ns",
        "otherData": {
            "program": timeline.program.name, "machine": timeline.program.machine,
            "launch_us": timeline.nanoseconds / 1e3, "critical_path_us": sum(s.run for s in path) / 1e3,
        },
    }  # fmt: skip


def _names(program: Program) -> Iterator[dict[str, Any]]:
    def named(what: str, process: int, track: int, **args: Any) -> dict[str, Any]:
        return {"ph": "M", "name": what, "pid": process, "tid": track, "args": args}

    yield named("process_name", WORKERS, 0, name=program.name)
    yield named("process_name", PATH, 0, name="critical path")
    yield named("process_sort_index", PATH, 0, sort_index=-1)
    yield named("thread_name", PATH, 0, name="critical path")
    for worker in range(len(program.queues)):
        yield named("thread_name", WORKERS, worker, name=f"worker {worker}")
        yield named("thread_sort_index", WORKERS, worker, sort_index=worker)


def _tasks(timeline: Timeline, path: Sequence[Step]) -> Iterator[dict[str, Any]]:
    program, begin, meter = timeline.program, timeline.begin, Meter(timeline.program)
    critical = {step.task for step in path}
    for queue in timeline.queues():
        for s in queue:
            task = program.tasks[s.task]
            awaited = [{"event": e, "value": v, "total": program.events[e].total} for e, v in task.waits]
            if s.began > s.arrived:
                args = {"task": s.task, "awaits": awaited}
                yield _slice("wait", "wait", WORKERS, s.worker, s.arrived - begin, s.began - s.arrived, args)
            nbytes, taken = meter.of(s.task).nbytes, s.ended - s.began
            args = {
                "task": s.task, "op": task.op, "label": program.ops[task.op],
                "tile": [list(span) for span in task.tile], "awaits": awaited, "signals": list(task.signals),
                "bytes": nbytes, "GB/s": round(nbytes / taken, 3) if taken else None, "critical": s.task in critical,
            }  # fmt: skip
            kind = program.kernels[task.kernel].nest.kind.value
            yield _slice(op_name(program.ops[task.op]), kind, WORKERS, s.worker, s.began - begin, taken, args)


def _path(timeline: Timeline, path: Sequence[Step]) -> Iterator[dict[str, Any]]:
    program, at = timeline.program, 0
    for number, step in enumerate(path):
        at += step.gap
        args = {
            "task": step.task, "label": program.ops[program.tasks[step.task].op], "after": step.cause.value,
            "event": None if step.event is None else {"event": step.event[0], "value": step.event[1]},
            "gap_us": step.gap / 1e3,
        }  # fmt: skip
        name = op_name(program.ops[program.tasks[step.task].op])
        yield _slice(name, "critical path", PATH, 0, at, step.run, args)
        at += step.run
        if number + 1 < len(path):
            yield from _arrow(timeline, number, step, path[number + 1])


def _arrow(timeline: Timeline, number: int, a: Step, b: Step) -> Iterator[dict[str, Any]]:
    """A flow binds to the slice that holds its time: ends are drawn a nanosecond inside."""
    tail, head = timeline.slices[a.task], timeline.slices[b.task]
    name = "queue" if b.event is None else f"event {b.event[0]} >= {b.event[1]}"
    shared = {"cat": "critical path", "name": name, "id": number, "pid": WORKERS}
    leave = max(tail.ended - 1, tail.began) - timeline.begin
    yield {**shared, "ph": "s", "tid": tail.worker, "ts": leave / 1e3}
    enter = max(head.began - timeline.begin, leave)
    yield {**shared, "ph": "f", "bp": "e", "tid": head.worker, "ts": enter / 1e3}


def _slice(
    name: str, category: str, process: int, track: int, start: int, taken: int, args: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": process, "tid": track, "ts": start / 1e3, "dur": taken / 1e3,
        "args": args,
    }  # fmt: skip
