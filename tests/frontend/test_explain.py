"""explain and statistics: what was compiled, what was not, and why."""

import pytest
import torch

import onelaunch
from onelaunch.frontend import compiler
from onelaunch.frontend import stats
from onelaunch.program.program import Program


@pytest.fixture
def faked(harness, monkeypatch):
    def make(module, constants, options, name):
        segment = harness.make(module, constants, options, name)
        segment.programs = [Program(name, "test", (), (), (), (), ("linear a", "rows b"), (), ((), ()), 2048)]
        return segment

    monkeypatch.setattr(compiler, "_runtime", lambda: make)
    monkeypatch.setattr(compiler, "_lowering_table", lambda: harness.refuse)
    return harness


X = torch.randn(3, 4)


def test_one_program(faked):
    found = onelaunch.explain(lambda x: x.sin() + 1, X, options={"cache": False})
    assert found.launches == 1 and not found.fallbacks and len(found.programs) == 1
    text = str(found)
    assert text.startswith("1 graph, 1 launch a call, 0 fallbacks")
    assert "2 ops, 0 tasks, 0 events, 0 kernels, 2 workers" in text and "workspace 2.0 KiB" in text


def test_fallbacks_and_breaks(faked):
    faked.refused = ("sort",)

    def f(x, *, scale):
        y = torch.sort(x.sin() * scale)[0].cos()
        print("break")
        return y.exp(), y.view(-1), x.view(-1)

    found = onelaunch.explain(f, X, scale=2, options={"cache": False})
    assert len(found.graphs) == 2 and found.launches == 3
    (fallback,) = found.fallbacks
    assert (
        fallback.op == "aten.sort.default" and "test_explain.py" in str(found) and "refused by the test" in str(found)
    )
    assert "AOTAutograd's wrapper" in str(found)


def test_whole_graphs_in_torch(faked):
    with torch.enable_grad():
        found = onelaunch.explain(torch.nn.Linear(4, 4), X)
    assert found.launches == 0 and "torch.no_grad" in str(found) and not found.programs


def test_drawings(faked, tmp_path):
    pytest.importorskip("onelaunch.program.draw")
    found = onelaunch.explain(lambda x: x.sin() + 1, X, options={"cache": False})
    files = found.save(tmp_path / "picture.svg")
    assert [f.name for f in files] == ["picture.svg", "picture.queues.svg"]
    assert all("<svg" in f.read_text() for f in files)


def test_statistics(faked):
    step = torch.compile(lambda x: x.cos() - 1, backend=onelaunch.backend, options={"cache": False})
    for _ in range(3):
        step(X)
    numbers = onelaunch.last_programs()[-1]
    assert numbers.launches == 3 and numbers.workspace_bytes == 2048 and numbers.fallbacks == 0
    name = numbers.name
    faked.segments.clear()
    faked.compilations.clear()
    del step
    torch._dynamo.reset()
    import gc

    gc.collect()
    assert name not in [s.name for s in onelaunch.last_programs()]  # nothing is kept alive for statistics
    assert stats.records()
