"""Folding, and which products become Linear nests."""

from __future__ import annotations

import pytest
import torch

from onelaunch.graph.nest import Kind
from onelaunch.transform.fold import fold
from onelaunch.transform.linear import linearise
from onelaunch.transform.linear import plain_body
from tests.lowering.test_pointwise import real
from tests.lowering.test_pointwise import whole
from tests.transform.graphs import graph_of
from tests.transform.graphs import kinds
from tests.transform.graphs import linears
from tests.transform.graphs import node_named


def folded(function, *args, weights=()):
    graph = graph_of(function, *args, weights=weights)
    fold(graph)
    return graph


def test_views_casts_and_index_arithmetic_vanish() -> None:
    def f(x, ids):
        y = x.view(6, 5).t().unsqueeze(0).expand(2, 5, 6).half().float()
        return torch.cat([y, y[:, :, :1]], -1)[..., ids + 1].sin()

    graph = folded(f, real(5, 6).t(), torch.tensor([0, 3]))
    assert len(graph.nodes) == 1
    assert graph.nodes[0].reads == ["arg1_1", "arg0_1"]


def test_arithmetic_on_floats_is_no_view() -> None:
    graph = folded(lambda x: (x + 1).view(-1).exp(), real(3, 5))
    assert len(graph.nodes) == 2


def test_masks_of_positions_vanish() -> None:
    def f(x, position):
        mask = torch.arange(9)[None] <= position[:, None]
        return torch.where(mask, x, 0.0).sum(-1)

    assert len(folded(f, real(1, 9), torch.tensor([4])).nodes) == 1


def matrix(graph):
    """The shape of (column, contraction) and the load of the only Linear nest's matrix."""
    (node,) = linears(graph)
    (c,) = node.nest.contractions
    return node.nest.vars[-1].args[0].value, c.var.args[0].value, str(c.w)


@pytest.mark.parametrize(("function", "weight", "found"), [
    (lambda x, w: x @ w.T, real(33, 70), (33, 70, "[i1, r0]")),  # [out, in]
    (lambda x, w: x @ w, real(70, 33), (33, 70, "[r0, i1]")),  # [in, out]
    (lambda x, w: torch.mv(w, x[0]) + 1, real(33, 70), (33, 70, "[i0, r0]")),
    (lambda x, w: torch.addmv(x[0, :33], w, x[0], alpha=2), real(33, 70), (33, 70, "[i0, r0]")),
    (lambda x, w: x @ w.view(70, 33), real(33, 70).view(-1), (33, 70, "[r0 * 33 + i1]")),
    (lambda x, w: x.bfloat16() @ w.T, real(33, 70).bfloat16(), (33, 70, "[i1, r0]")),
    (lambda x, w: x @ w[1:].T, real(34, 70), (33, 70, "[i1 + 1, r0]")),
    (lambda x, w: (w @ x.T).T, real(33, 70), (33, 70, "[i0, r0]")),
])  # fmt: skip
def test_products_become_linear(function, weight, found) -> None:
    graph = folded(function, real(3, 70), weight, weights=(1,))
    assert linearise(graph) == 1
    columns, terms, load = matrix(graph)
    assert (columns, terms) == found[:2]
    assert load == f"%arg1_1{found[2]}"


def test_the_weight_is_the_matrix_on_either_side() -> None:
    for weights in ((0,), (1,)):
        graph = folded(lambda a, b: a @ b, real(20, 30), real(30, 40), weights=weights)
        linearise(graph)
        (node,) = linears(graph)
        assert node.nest.contractions[0].w.attr == f"arg{weights[0]}_1"


@pytest.mark.parametrize(("function", "args"), [
    (lambda x, w: x @ w, (real(3, 7), real(7, 5))),  # too small
    (lambda x, w: torch.bmm(x, w), (real(2, 3, 70), real(2, 70, 33))),  # a matrix for each row
    (lambda x, w: x @ w, (whole(3, 70), whole(70, 33))),  # integers
    (lambda x, w: x @ w, (real(3, 70).double(), real(70, 33).double())),  # finished sums would be fp32
    (lambda x, w: (x[:, None] * w).sum(1), (real(3, 33), real(70, 33))),  # no contraction of x with w
    (lambda x, w: (x - w).square().sum(-1), (real(3, 70), real(70))),
])  # fmt: skip
def test_what_stays_in_generic_loops(function, args) -> None:
    graph = folded(function, *args, weights=(1,))
    assert linearise(graph) == 0
    assert Kind.LINEAR.value not in kinds(graph)


def test_the_body_can_be_written_out_again() -> None:
    graph = folded(lambda x, w: (x @ w).float(), real(3, 70), real(70, 33), weights=(1,))
    before = node_named(graph, "mm").nest
    linearise(graph)
    assert plain_body(node_named(graph, "mm").nest) is before.body
