"""Products that do not wait for each other share the workers by their bytes."""

from __future__ import annotations

import pytest
import torch

from onelaunch.graph.nest import Kind
from onelaunch.transform import optimise
from onelaunch.transform.inplace import inplace
from onelaunch.transform.siblings import worker_shares
from tests.lowering.test_pointwise import real
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

WIDE = machine(workers=64, dependency=100.0, task=1.0)
X, Q, K, V = real(1, 64), real(512, 64), real(128, 64), real(128, 64)


def projections(x, q, k, v):
    return x @ q.T, x @ k.T, x @ v.T


def shares(function, *args, on=WIDE):
    graph = graph_of(function, *args, weights=range(1, len(args)))
    optimise(graph, on)
    nodes = inplace(graph).nodes
    assert all(n.nest.kind is Kind.LINEAR for n in nodes)
    return worker_shares(nodes, on)


def test_by_their_bytes():
    assert shares(projections, X, Q, K, V) == [42, 11, 11]


def test_one_after_the_other_use_all():
    def chain(x, q, k):
        return (x @ q.T)[:, :64] @ k.T

    assert shares(chain, X, Q, K) == [64, 64]


@pytest.mark.parametrize("workers", [2, 16])
def test_few_workers_are_not_shared_out(workers):
    assert shares(projections, X, Q, K, V, on=machine(workers=workers)) == [workers] * 3


def test_each_worker_runs_one_task_and_the_result_is_right():
    args = X, Q, K, V
    program = compiled(projections, *args, on=WIDE, weights=(1, 2, 3))
    assert len(program.tasks) <= 64
    assert max(len(q) for q in program.queues) == 1
    assert_runs(program, projections, *args)


def test_shares_add_up():
    rows = [real(8 * n, 64) for n in (33, 47, 100)]

    def f(x, *w):
        return tuple(x @ m.T for m in w)

    assert sum(shares(f, X, *rows)) == 64
    assert torch.tensor(shares(f, X, *rows)).diff().gt(0).all()
