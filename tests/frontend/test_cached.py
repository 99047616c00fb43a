"""A second process, here a fresh segment, finds the plan of the first and skips tracing."""

import pytest
import torch

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import compiler
from onelaunch.frontend.options import parse


class Store:
    """In place of the runtime's cache and of its segments: one that can be made again from JSON."""

    def __init__(self, monkeypatch, harness):
        import json

        from onelaunch.runtime import cache
        from onelaunch.runtime import compiled

        self.kept, self.modules, self.harness, self.loads = {}, {}, harness, 0
        monkeypatch.setattr(cache, "settings", lambda options: [options.target])
        monkeypatch.setattr(cache, "read", lambda key, options: self.kept.get(key))
        monkeypatch.setattr(
            cache, "write", lambda key, value, options: self.kept.update({key: json.loads(json.dumps(value))})
        )
        monkeypatch.setattr(compiled, "compile_segment", self.compile)
        monkeypatch.setattr(compiled, "load_segment", self.load)
        monkeypatch.setattr(compiler, "_lowering_table", lambda: harness.refuse)

    def compile(self, module, constants, options, name):
        segment = self.harness.make(module, constants, options, name)
        self.modules[name] = (module, constants)
        segment.save = lambda: {"made": name}
        return segment

    def load(self, saved, options, name):
        self.loads += 1
        return self.harness.make(*self.modules[saved["made"]], options, name)


@pytest.fixture
def store(monkeypatch, harness):
    return Store(monkeypatch, harness)


def compiled(f, done, **kwargs):
    """``f`` compiled afresh, as in a new process; appends what became of its graphs to ``done``."""
    torch._dynamo.reset()

    def backend(gm, inputs):
        done.append(compiler.compile_graph(gm, inputs, parse({})))
        return done[-1].run

    return torch.compile(f, backend=backend, **kwargs)


X = torch.randn(3, 4)


def test_hit(store):
    def f(x, state):
        state.add_(1)
        y = x * torch.tensor([1.0, 2.0, 3.0, 4.0]) + state
        return y, y.t(), 3, x.sum()

    done = []
    for expected in (False, True):
        state = torch.zeros(1)
        step = compiled(f, done)
        for n in (1.0, 2.0):
            got, reference = step(X, state), f(X, torch.full((1,), n - 1))
            assert state.item() == n and got[2] == 3
            torch.testing.assert_close(got[:2] + got[3:], reference[:2] + reference[3:])
            assert got[1].untyped_storage().data_ptr() == got[0].untyped_storage().data_ptr()
        assert done[-1].record.plan_hit is expected
    assert len(store.kept) == store.loads == 1


def test_another_option_is_another_entry(store):
    def f(x):
        return (x + 1,)

    gm = torch.fx.symbolic_trace(f)
    next(iter(gm.graph.nodes)).meta["example_value"] = X
    first = compiler.compile_graph(gm, [X], parse({"target": "cpu"}))
    second = compiler.compile_graph(gm, [X], parse({"target": "reference"}))
    third = compiler.compile_graph(gm, [X], parse({"target": "cpu"}))
    fourth = compiler.compile_graph(gm, [X], parse({"target": "cpu", "cache": False}))
    assert [c.record.plan_hit for c in (first, second, third, fourth)] == [False, False, True, False]


def test_symbolic_sizes_and_their_guards(store):
    def f(x, n):
        return x[:n] + (1 if n > 4 else 2), n + 1

    done = []
    for _ in range(2):
        step = compiled(f, done, dynamic=True)
        for n in (2, 3, 6, 7):
            x = torch.randn(n + 3, 2)
            torch.testing.assert_close(step(x, n), f(x, n))
    hits = [c.record.plan_hit for c in done]
    assert hits == [False] * (len(hits) // 2) + [True] * (len(hits) // 2) and len(hits) >= 4


def test_after_a_hit_sizes_without_a_program_are_left_to_torch(store, monkeypatch):
    """As they are where the graph was compiled."""

    def f(x):
        x.add_(1)
        return x * 2

    done = []
    for _ in range(2):
        step = compiled(f, done, dynamic=True)
        step(torch.ones(6, 3))
    assert done[-1].record.plan_hit

    def refuse(*_):
        raise UnsupportedError("refused")

    monkeypatch.setattr(type(store.harness.segments[-1]), "__call__", refuse)
    x = torch.ones(9, 3)
    assert torch.equal(step(x), torch.full((9, 3), 4.0)) and torch.equal(x, torch.full((9, 3), 2.0))


def test_guards_that_tracing_adds_hold_after_a_hit(store, monkeypatch):
    """A guard that only AOTAutograd's tracing adds has to be added by a hit too."""
    from onelaunch.frontend import attention

    def assume(gm):  # as if tracing had specialised on the size being large
        node = next(n for n in gm.graph.nodes if n.op == "placeholder" and "Tensor" in str(n.type))
        assert node.meta["example_value"].shape[0] > 4

    monkeypatch.setattr(attention, "keep_whole", assume)
    done = []
    for _ in range(2):
        step = compiled(lambda x: x * 2, done, dynamic=True)
        step(torch.ones(6, 3)), step(torch.ones(7, 3))
        assert done[-1].record.plan_hit is (len(done) == 2)
    with pytest.raises(Exception, match="assert"):
        step(torch.ones(3, 3))  # outside the guard: compiled again


def test_guards_on_integers_that_are_no_inputs(store):
    """Dynamo compares a size with an integer that the graph does not get: as a cache with a sliding window does."""

    class Window:
        used, size = 6, 16

    def f(x, window):
        return x[: window.used] + (1 if window.used < window.size else 2)

    done = []
    for _ in range(2):
        step = compiled(f, done, dynamic=True)
        torch.testing.assert_close(step(torch.ones(20, 3), Window()), torch.full((6, 3), 2.0))
    assert [c.record.plan_hit for c in done] == [False, True]


@pytest.mark.parametrize("damage", [{"version": 99}, {"results": 5}, {"inputs": 7}])
def test_damaged_plans_are_compiled_again(store, damage, caplog):
    done = []
    compiled(lambda x: x + 1, done)(X)
    for value in store.kept.values():
        value.update(damage)
    torch.testing.assert_close(compiled(lambda x: x + 1, done)(X), X + 1)
    assert not done[-1].record.plan_hit
    compiled(lambda x: x + 1, done)(X)
    assert done[-1].record.plan_hit


def test_what_is_not_cached(store, harness):
    harness.refused = ("sort",)
    done = []
    compiled(lambda x: torch.sort(x.sin())[0], done)(X)  # a part in torch
    compiled(lambda x: (x.view(-1), x + 1), done)(X)  # AOTAutograd's wrapper
    compiled(lambda x, y: x + y, done)(X[0], X[1])  # inputs share memory
    assert not store.kept and not any(c.record.plan_hit for c in done)
