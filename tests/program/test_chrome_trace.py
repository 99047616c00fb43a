"""The trace file: valid JSON, every task once, tracks whose slices do not overlap, the critical path beside them."""

from __future__ import annotations

import itertools
import json

import pytest

from onelaunch.program.chrome_trace import PATH
from onelaunch.program.chrome_trace import WORKERS
from onelaunch.program.chrome_trace import chrome_trace
from onelaunch.program.timeline import critical_path
from tests.program.programs import many_tasks
from tests.program.programs import odd_names
from tests.program.timelines import known
from tests.program.timelines import soonest

TIMELINES = [known(), soonest(many_tasks(3, 7, 5), 1, 30), soonest(odd_names(), 2)]


def events(timeline, phase: str, process: int = WORKERS) -> list[dict]:
    written = json.loads(json.dumps(chrome_trace(timeline), allow_nan=False))
    return [e for e in written["traceEvents"] if e["ph"] == phase and e["pid"] == process]


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda t: t.program.name[:4])
def test_every_task_once_on_its_worker(timeline):
    program = timeline.program
    tasks = [e for e in events(timeline, "X") if e["cat"] != "wait"]
    assert sorted(e["args"]["task"] for e in tasks) == list(range(len(program.tasks)))
    for e in tasks:
        s = timeline.slices[e["args"]["task"]]
        assert e["tid"] == s.worker and e["args"]["label"] == program.ops[program.tasks[s.task].op]
        assert e["ts"] == pytest.approx((s.began - timeline.begin) / 1e3)
        assert e["dur"] == pytest.approx((s.ended - s.began) / 1e3)
        assert [(w["event"], w["value"]) for w in e["args"]["awaits"]] == list(program.tasks[s.task].waits)
    names = {e["tid"]: e["args"]["name"] for e in events(timeline, "M") if e["name"] == "thread_name"}
    assert names == {w: f"worker {w}" for w in range(len(program.queues))}


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda t: t.program.name[:4])
def test_slices_of_a_track_do_not_overlap(timeline):
    for process in (WORKERS, PATH):
        tracks: dict[int, list[tuple[float, float]]] = {}
        for e in events(timeline, "X", process):
            tracks.setdefault(e["tid"], []).append((e["ts"], e["dur"]))
        for slices in tracks.values():
            for (start, taken), (following, _) in itertools.pairwise(sorted(slices)):
                assert start + taken <= following + 1e-6


def test_waiting_is_slices_of_its_own():
    waits = {e["args"]["task"]: e for e in events(known(), "X") if e["cat"] == "wait"}
    assert waits[2]["ts"] == 0.1 and waits[2]["dur"] == pytest.approx(0.11)
    assert waits[2]["args"]["awaits"] == [{"event": 0, "value": 2, "total": 2}]
    assert sum(e["dur"] for e in waits.values()) == pytest.approx(0.128)


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda t: t.program.name[:4])
def test_the_critical_path_is_a_track_and_arrows(timeline):
    path = critical_path(timeline)
    steps = events(timeline, "X", PATH)
    assert [e["args"]["task"] for e in steps] == [s.task for s in path]
    assert {e["args"]["task"] for e in events(timeline, "X") if e["args"].get("critical")} == {s.task for s in path}
    leaving, entering = events(timeline, "s"), events(timeline, "f")
    assert [e["id"] for e in leaving] == [e["id"] for e in entering] == list(range(len(path) - 1))
    for a, b, (before, step) in zip(leaving, entering, itertools.pairwise(path), strict=True):
        tail, head = timeline.slices[before.task], timeline.slices[step.task]
        assert (a["tid"], b["tid"]) == (tail.worker, head.worker) and a["ts"] <= b["ts"]
        assert tail.began <= 1e3 * a["ts"] + timeline.begin + 1e-6 <= tail.ended + 1e-3
        assert (step.event is None) == (a["name"] == "queue")
