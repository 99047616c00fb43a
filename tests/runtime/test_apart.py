"""Programs that other processes make: the same ones, and none where a process fails."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from onelaunch.check import check
from onelaunch.graph.graph_text import parse_graph
from onelaunch.graph.graph_text import print_graph
from onelaunch.program.machine import cuda
from onelaunch.program.text import print_program
from onelaunch.runtime import apart
from onelaunch.runtime.apart import Processes
from onelaunch.transform import compile_graph
from tests.transform import test_forward
from tests.transform.graphs import graph_of


@pytest.fixture
def text() -> str:
    return print_graph(graph_of(test_forward.step, *test_forward.inputs(), weights=(1, 2, 3)))


@pytest.mark.parametrize("checked", [True, False])
def test_the_same_program_and_certificate(text, checked):
    machines = cuda(), cuda(workers=3)
    with Processes() as processes:
        waits = [processes.draft(text, (), f"on {m.workers}", m, checked) for m in machines]
        drafts = [wait() for wait in waits]
    for machine, draft in zip(machines, drafts, strict=True):
        want = compile_graph(parse_graph(text), machine)
        assert draft is not None and draft.program.name == f"on {machine.workers}"
        assert draft.text == print_program(draft.program) and draft.program.tasks == want.tasks
        assert draft.certificate == (str(check(draft.program)) if checked else None)


@pytest.mark.parametrize("why", ["no graph", "no executable", "no answer"])
def test_a_process_that_fails_makes_none(text, why, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    if why == "no executable":
        monkeypatch.setattr(apart, "get_executable", lambda: "/nonexistent/python")
    if why == "no answer":
        monkeypatch.setattr(apart, "get_executable", lambda: "true")
    with Processes() as processes:
        assert processes.draft("nonsense" if why == "no graph" else text, (), "p", cuda(), True)() is None
    assert "a process of its own has made no program: " in caplog.text


def test_it_begins_at_once():
    needed = "onelaunch.runtime.apart, onelaunch.transform, onelaunch.check"
    subprocess.run([sys.executable, "-c", f"import sys, {needed}; assert 'torch' not in sys.modules"], check=True)
