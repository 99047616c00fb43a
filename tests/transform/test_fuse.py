"""Chain, epilogue and share: what is computed where it is used, and what is stored."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.transform import optimise
from tests.lowering.test_pointwise import real
from tests.transform.graphs import MACHINE
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import kinds
from tests.transform.graphs import linears
from tests.transform.graphs import machine

HIDDEN = 72
X, NORM = real(3, HIDDEN), real(HIDDEN, low=0.5)
GATE, UP, DOWN = (real(129, HIDDEN, low=-0.1, high=0.1) for _ in range(3))


def optimised(function, *args, weights=(), on=MACHINE):
    graph = graph_of(function, *args, weights=weights)
    optimise(graph, on, verified=True)
    return graph


def norm(x, w):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * w


def test_pointwise_chains_are_one_nest() -> None:
    graph = optimised(lambda x: (x.exp() + 1).log().tanh().softmax(-1), X)
    assert len(graph.nodes) <= 2
    assert kinds(optimised(lambda x: (x + 1) * 2 - x, X)) == ["rows"]


def test_bias_residual_and_activation_are_epilogues() -> None:
    def f(x, w, b, r):
        return r + F.gelu(x @ w.T + b)

    graph = optimised(f, X, GATE, real(129), real(3, 129), weights=(1, 2))
    assert kinds(graph) == ["linear"]
    assert {"arg2_1", "arg3_1"} <= set(graph.nodes[0].reads)


def test_gate_and_up_become_one_op_with_one_prologue() -> None:
    graph = optimised(lambda x, g, u: F.silu(x @ g.T) * (x @ u.T), X, GATE, UP + 1, weights=(1, 2))
    (node,) = graph.nodes
    first, second = node.nest.contractions
    assert first.var is second.var
    assert first.x is second.x
    assert {first.w.attr, second.w.attr} == {"arg1_1", "arg2_1"}


@pytest.mark.parametrize("dependency", [1.0, 1e6])
def test_an_activation_ends_the_products_before_it_and_does_not_begin_those_after_it(dependency: float) -> None:
    """However cheap it is to compute again: at its own columns it is computed once."""

    def f(x, g, u, d):
        return (F.silu(x @ g.T) * (x @ u.T)) @ d

    on = machine(dependency=dependency)
    graph = optimised(f, X, GATE, UP, DOWN, weights=(1, 2, 3), on=on)
    gated, down = graph.nodes
    assert len(gated.nest.contractions) == 2
    assert down.nest.contractions[0].x.op is Op.LOAD
    assert_runs(compiled(f, X, GATE, UP, DOWN, on=on, weights=(1, 2, 3)), f, X, GATE, UP, DOWN)


def test_fused_gate_and_up_read_their_columns_at_an_offset() -> None:
    def f(x, w):
        gate, up = (x @ w.T).chunk(2, -1)
        return F.silu(gate) * up

    graph = optimised(f, X, torch.cat([GATE, UP]), weights=(1,))
    (node,) = graph.nodes
    assert sorted(str(c.w) for c in node.nest.contractions) == ["%arg1_1[i1 + 129, r0]", "%arg1_1[i1, r0]"]
    assert_runs(compiled(f, X, torch.cat([GATE, UP]), weights=(1,)), f, X, torch.cat([GATE, UP]))


def test_a_reduction_over_columns_is_the_consumers() -> None:
    graph = optimised(lambda x, w: norm(x @ w.T, 1.0), X, GATE, weights=(1,))
    assert kinds(graph)[0] == "linear"
    assert len(graph.nodes) > 1
    assert not any(e.op is Op.REDUCE for e in walk(graph.nodes[0].nest.body))


def test_a_product_that_is_needed_twice_is_stored() -> None:
    def f(x, w):
        y = x @ w.T
        return y.sin(), y.sum(-1)

    assert len(linears(optimised(f, X, GATE, weights=(1,)))) == 1


def test_a_product_as_matrix_of_another_is_stored() -> None:
    def f(a, b, w):
        return a @ (b @ w)

    args = real(3, 20), real(20, 33), real(33, 19)
    assert kinds(optimised(f, *args, weights=(2,))).count("linear") == 2
    assert_runs(compiled(f, *args, weights=(2,)), f, *args)


def test_a_product_of_a_product_keeps_the_first() -> None:
    def f(x, up, down):
        return (x @ up.T) @ down

    graph = optimised(f, X, UP, DOWN, weights=(1, 2))
    assert kinds(graph) == ["linear", "linear"]


def test_a_norm_is_a_prologue_where_recomputing_is_cheap() -> None:
    def f(x, n, q, k, v):
        y = norm(x, n)
        return y @ q.T, y @ k.T, y @ v.T

    args = X, NORM, GATE, UP, DOWN
    cheap = optimised(f, *args, weights=(1, 2, 3, 4), on=machine(dependency=1e6, flops=64.0))
    assert kinds(cheap) == ["linear"] * 3
    dear = optimised(f, *args, weights=(1, 2, 3, 4), on=machine(dependency=1.0, task=1.0, flops=0.01))
    assert kinds(dear)[0] == "rows"
    assert kinds(dear).count("linear") == 3


def test_dear_values_of_many_users_are_stored_once() -> None:
    def f(position, x, y):
        angle = position * torch.arange(64)
        c, s = angle.cos(), angle.sin()
        return x * c + y * s, (x + 1) * c - y * s, y * c

    args = torch.tensor([3.0]), real(64, 64), real(64, 64)
    graph = optimised(f, *args, on=machine(transcendental=100.0, dependency=10.0))
    circular = [n for n in graph.nodes if any(e.op in (Op.COS, Op.SIN) for e in walk(n.nest.body))]
    assert len(circular) == 2
    assert all(len(n.nest.vars) == 1 for n in circular)
    free = optimised(f, *args, on=machine(transcendental=0.0, dependency=1e9))
    assert len(free.nodes) == 3


def test_running_sums_inside_sums() -> None:
    def f(x):
        return (x.cumsum(-1) * x.cumsum(0)).tanh().sum(-1, keepdim=True) * x.cumsum(-1).exp()

    args = (real(7, 5),)
    for dependency in (1.0, 1e9):
        assert_runs(compiled(f, *args, on=machine(dependency=dependency)), f, *args)


def test_outputs_are_stored_whatever_they_cost() -> None:
    def f(x):
        y = x + 1
        return y, y * 2

    assert len(optimised(f, X).nodes) == 2


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("dependency", [1.0, 1e6])
def test_any_choice_gives_the_same_result(tokens: int, dependency: float) -> None:
    def layer(x, n, g, u, d):
        y = norm(x, n)
        h = x + (F.silu(y @ g.T) * (y @ u.T)) @ d
        return h, norm(h, n)

    args = real(tokens, HIDDEN), NORM, GATE, UP, DOWN
    on = machine(dependency=dependency)
    assert_runs(compiled(layer, *args, on=on, weights=(1, 2, 3, 4)), layer, *args)
