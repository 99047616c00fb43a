"""Tiles, order, place and memory: the certificate accepts what they make, and only that."""

from __future__ import annotations

import dataclasses
import itertools

import expecttest
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch.nn import functional as F

from onelaunch.check import check
from onelaunch.errors import CheckError
from onelaunch.graph.nest import Kind
from onelaunch.program.program import Program
from onelaunch.program.program import Role
from onelaunch.program.text import print_program
from onelaunch.transform import memory
from onelaunch.transform import optimise
from onelaunch.transform.tile import tiles
from tests.lowering.test_pointwise import real
from tests.transform.graphs import MACHINE
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

FINE = machine(task=1.0, dependency=1.0, flops=0.01)  # splitting always pays
X, W = real(3, 72), real(131, 72, low=-0.1, high=0.1)


def mlp(x, gate, up, down):
    return x + (F.silu(x @ gate.T) * (x @ up.T)) @ down


MLP = X, W, W.flip(0).contiguous(), real(131, 72, low=-0.1, high=0.1)


def nests_of(function, *args, weights=()):
    graph = graph_of(function, *args, weights=weights)
    optimise(graph, MACHINE, verified=True)
    return [n.nest for n in graph.nodes]


def cells(boxes) -> list[tuple[int, ...]]:
    return [c for box in boxes for c in itertools.product(*(range(a, b) for a, b in box))]


@pytest.mark.parametrize("workers", [1, 3, 4, 7, 132])
@pytest.mark.parametrize("function", [
    lambda x, w: x @ w.T, lambda x, w: x.sin(), lambda x, w: x.softmax(-1), lambda x, w: w.sum(0),
    lambda x, w: w.cumsum(0),
    lambda x, w: F.pad(x, (1, 1)) + 1,
])  # fmt: skip
def test_tiles_cover_everything_once(function, workers: int) -> None:
    for nest in nests_of(function, X, W, weights=(1,)):
        boxes = tiles(nest, machine(workers=workers, task=1.0, dependency=1.0, flops=0.01))
        assert len(boxes) <= workers
        wanted = cells([[(0, v.args[0].value) for v in nest.vars]])
        assert sorted(cells(boxes)) == wanted


def test_linear_tiles_begin_at_multiples_of_the_grain() -> None:
    (nest,) = nests_of(lambda x, w: x @ w.T, X, W, weights=(1,))
    boxes = tiles(nest, FINE)
    assert len(boxes) == 4
    assert all(box[-1][0] % FINE.linear_rows == 0 and box[0] == (0, 3) for box in boxes)


def test_reductions_are_never_split_and_never_repeated() -> None:
    (nest,) = nests_of(lambda x, w: x / x.sum(-1, keepdim=True), X, W)
    assert all(box[1] == (0, 72) for box in tiles(nest, FINE))


def test_small_ops_are_one_task() -> None:
    (nest,) = nests_of(lambda x, w: x + 1, X, W)
    assert len(tiles(nest, machine(task=1e6))) == 1


def test_attention_is_split_along_its_queries_only() -> None:
    q, k = real(2, 4, 3, 16), real(2, 4, 13, 16)
    (nest,) = nests_of(lambda q, k: (q @ k.mT).softmax(-1) @ k, q, k)
    assert nest.kind is Kind.ATTEND
    assert all(box[-1] == (0, 16) for box in tiles(nest, FINE))


# order and place


def programs() -> dict[str, Program]:
    return {
        name: compiled(mlp, *MLP, on=machine(workers=n), weights=(1, 2, 3))
        for name, n in (("1", 1), ("4", 4), ("7", 7))
    }


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_on_one_queue(workers: int) -> None:
    program = compiled(mlp, *MLP, on=dataclasses.replace(FINE, workers=workers), weights=(1, 2, 3))
    assert sorted(t for q in program.queues for t in q) == list(range(len(program.tasks)))
    assert len(program.queues) == workers
    assert_runs(program, mlp, *MLP)


def test_one_worker_needs_no_events() -> None:
    program = compiled(mlp, *MLP, on=machine(workers=1), weights=(1, 2, 3))
    assert program.events == ()


def test_events_count_their_signals() -> None:
    program = compiled(mlp, *MLP, on=FINE, weights=(1, 2, 3))
    assert program.events
    for n, event in enumerate(program.events):
        assert sum(t.signals.count(n) for t in program.tasks) == event.total
        assert any(e == n for t in program.tasks for e, _ in t.waits)


def test_no_wait_is_superfluous() -> None:
    """Each wait left out makes a race: the certificate refuses every such program."""
    program = compiled(mlp, *MLP, on=FINE, weights=(1, 2, 3))
    waits = [(n, w) for n, t in enumerate(program.tasks) for w in t.waits]
    assert len(waits) >= 4
    for n, wait in waits:
        tasks = list(program.tasks)
        tasks[n] = dataclasses.replace(tasks[n], waits=tuple(w for w in tasks[n].waits if w != wait))
        with pytest.raises(CheckError):
            check(dataclasses.replace(program, tasks=tuple(tasks)))


def test_tasks_of_one_op_do_not_wait_for_each_other() -> None:
    program = compiled(mlp, *MLP, on=FINE, weights=(1, 2, 3))
    producers = [{t.op for t in program.tasks if e in t.signals} for e in range(len(program.events))]
    for t in program.tasks:
        assert all(t.op not in producers[e] for e, _ in t.waits)


# memory

sizes = st.integers(1, 500)
lives = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda t: (t[0], t[0] + t[1]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(sizes, lives), min_size=1, max_size=25))
def test_living_buffers_never_share_bytes(made: list[tuple[int, tuple[int, int]]]) -> None:
    size = {f"b{n}": s for n, (s, _) in enumerate(made)}
    life = {f"b{n}": v for n, (_, v) in enumerate(made)}
    offsets, total = memory.layout(size, life, 64)
    shared = memory.sharing(size, offsets, life)
    for a, b in itertools.combinations(size, 2):
        meet = offsets[a] < offsets[b] + size[b] and offsets[b] < offsets[a] + size[a]
        if meet:
            first, second = sorted((a, b), key=lambda n: life[n])
            assert life[first][1] + memory.REST < life[second][0]
            assert shared.get(second)
    assert all(o % 64 == 0 and o + size[n] <= total for n, o in offsets.items())


def test_lifetimes() -> None:
    assert memory.lifetimes([("a", "b"), ("c", "a"), ("b",)]) == {"a": (0, 1), "b": (0, 2), "c": (1, 1)}


def deep(x):
    for n in range(24):
        x = x.roll(1, 0).cumsum(1) * 0.1 + n
    return x


def test_bytes_are_used_again_in_deep_programs() -> None:
    program = compiled(deep, X, on=FINE)
    temporary = [b for b in program.buffers if b.role is Role.WORKSPACE]
    assert program.workspace < sum(b.nbytes for b in temporary)
    assert_runs(program, deep, X)


# goldens


class TestGolden(expecttest.TestCase):
    """The whole program of a tiny model; refresh with EXPECTTEST_ACCEPT=1 after reading the difference."""

    maxDiff = None

    def test_linear_with_bias_and_residual(self) -> None:
        """One product with its epilogue, split over two workers, and a norm that waits for both."""

        def f(x, w, b):
            y = F.relu(x @ w.T + b)
            return y / y.sum(-1, keepdim=True)

        program = compiled(
            f, real(2, 32), real(24, 32), real(24), on=dataclasses.replace(FINE, workers=2), weights=(1, 2)
        )
        self.assertExpectedInline(
            print_program(program),
            """\
onelaunch program 1
name "small"
machine "synthetic"
workspace 192
buffer 0 input arg0_1: f32[2, 32] strides [32, 1] argument 0
buffer 1 weight arg1_1: f32[24, 32] strides [32, 1] argument 1
buffer 2 weight arg2_1: f32[24] strides [1] argument 2
buffer 3 workspace relu: f32[2, 24] strides [24, 1] at 0
buffer 4 output div: f32[2, 24] strides [24, 1] argument 0
kernel 0
  operand p0: f32[2, 24] strides [24, 1]
  operand p1: f32[24] strides [1]
  operand p2: f32[2, 32] strides [32, 1]
  operand p3: f32[24, 32] strides [32, 1]
  for i0 < 2, i1 < 24
    contract k0 < 32
      x = %p2[i0, k0]
      w = %p3[i1, k0]
    store f32 %p0[i0, i1] = max(@0 + %p1[i1], 0.0)
kernel 1
  operand p0: f32[2, 24] strides [24, 1]
  operand p1: f32[2, 24] strides [24, 1]
  for i0 < 2, i1 < 24
    store f32 %p0[i0, i1] = %p1[i0, i1] / sum(r0 < 24: %p1[i0, r0])
event 0 total 2 scope device home 0
op 0 "linear relu"
op 1 "rows div"
task 0 op 0 kernel 0 on 3 2 0 1 tile 0:2 0:16 signals 0 reads 2[0:16] 0[0:2,0:32] 1[0:16,0:32] writes 3[0:2,0:16]
task 1 op 0 kernel 0 on 3 2 0 1 tile 0:2 16:24 signals 0 reads 2[16:24] 0[0:2,0:32] 1[16:24,0:32] writes 3[0:2,16:24]
task 2 op 1 kernel 1 on 4 3 tile 0:1 0:24 waits 0>=2 reads 3[0:1,0:24] writes 4[0:1,0:24]
task 3 op 1 kernel 1 on 4 3 tile 1:2 0:24 waits 0>=2 reads 3[1:2,0:24] writes 4[1:2,0:24]
queue 0 tasks 0 2
queue 1 tasks 1 3
end
""",
        )
