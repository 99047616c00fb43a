"""Attention split along its positions gives what whole attention gives, at every length and with every kind of mask."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from onelaunch.graph import build
from onelaunch.graph.nest import Kind
from onelaunch.transform import compile_graph
from onelaunch.transform import optimise
from tests.lowering.test_pointwise import real
from tests.lowering.test_pointwise import truth
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

WIDE = machine(workers=64, dependency=10.0, task=10.0, attend_parts=4)
KEYS = 300  # five blocks of 64: four parts of two blocks, the last of them empty
Q, K, V = real(2, 2, 1, 16), real(2, 2, KEYS, 16), real(2, 2, KEYS, 8)
FAR = torch.finfo(torch.float32).min


def parts(graph):
    return [int(n.nest.attention.part.args[0].value) for n in graph.nodes if n.nest.kind is Kind.ATTEND]


def attended(choose, hide=-math.inf):
    """Attention over the positions that ``choose(key, position)`` names."""

    def f(q, k, v, position):
        score = torch.where(choose(torch.arange(KEYS), position), q @ k.mT, hide)
        return torch.softmax(score, -1) @ v

    return f


def test_a_row_is_split_where_workers_would_idle():
    function = attended(lambda key, p: key <= p)
    graph = graph_of(function, Q, K, V, torch.tensor([8]))
    assert optimise(graph, WIDE, verified=True)["split"] == 1
    assert parts(graph) == [4]
    merge = graph.nodes[-1]
    assert merge.nest.kind is Kind.ROWS and merge.nest.attention is None


@pytest.mark.parametrize(
    "changes", [{"attend_parts": 1}, {"workers": 4}, {"dependency": 1e9}], ids=["not wanted", "no idle worker", "dear"]
)
def test_a_row_is_not_split_where_that_gains_nothing(changes):
    on = machine(**{"workers": 64, "dependency": 10.0, "task": 10.0, "attend_parts": 4, **changes})
    graph = graph_of(attended(lambda key, p: key <= p), Q, K, V, torch.tensor([8]))
    assert optimise(graph, on)["split"] == 0


def test_the_latency_of_a_position_is_reason_enough():
    on = machine(workers=64, dependency=1e5, task=10.0, attend_parts=4)
    for position, found in ((0.0, 0), (1000.0, 1)):
        graph = graph_of(attended(lambda key, p: key <= p), Q, K, V, torch.tensor([8]))
        assert optimise(graph, dataclasses.replace(on, position=position))["split"] == found


SPANS = {
    "to the position": lambda key, p: key <= p,
    "a window": lambda key, p: (key <= p) & (key > p - 100),
    "scanned": lambda key, p: (key * key <= p * p) & (key % 7 != 3),
    "everything": lambda key, p: key + p >= 0,
}


@pytest.mark.parametrize("span", SPANS)
def test_every_length(span):
    function = attended(SPANS[span])
    program = compiled(function, Q, K, V, torch.tensor([0]), on=WIDE)
    for position in (0, 1, 62, 63, 64, 65, 127, 128, 200, 255, 256, 299):
        assert_runs(program, function, Q, K, V, torch.tensor([position]))


def test_rows_of_different_length():
    function = attended(lambda key, p: key <= p)
    position = torch.tensor([3, 290]).reshape(2, 1, 1, 1)
    assert_runs(compiled(function, Q, K, V, position, on=WIDE), function, Q, K, V, position)


def test_a_mask_that_is_data():
    def f(q, k, v, mask):
        return torch.softmax(torch.where(mask, q @ k.mT, -math.inf), -1) @ v

    mask = truth(2, 1, 1, KEYS)
    mask[0, ..., 70:] = False
    mask[1, ..., 100:200] = False
    assert_runs(compiled(f, Q, K, V, mask, on=WIDE), f, Q, K, V, mask)


def test_rows_without_positions_are_nan_as_written():
    function = attended(lambda key, p: key < p)
    args = Q, K, V, torch.tensor([0])
    assert torch.isnan(function(*args)).all()
    assert_runs(compiled(function, *args, on=WIDE), function, *args)


def test_rows_without_positions_are_zero_in_torch_s_own_attention():
    def f(q, k, v, mask):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    mask = truth(2, 1, 1, KEYS)
    mask[1] = False
    assert_runs(compiled(f, Q, K, V, mask, on=WIDE), f, Q, K, V, mask)


def test_huge_negative_addends_may_hide_everything():
    def f(q, k, v, mask):
        return torch.softmax(q @ k.mT + torch.where(mask, 0.0, FAR), -1) @ v

    mask = truth(2, 1, 1, KEYS)
    mask[0, ..., 100:] = False
    mask[1] = False
    assert_runs(compiled(f, Q, K, V, mask, on=WIDE), f, Q, K, V, mask)


def test_heads_that_share_keys():
    def f(q, k, v, position):
        k, v = (x[:, :, None].expand(2, 2, 3, *x.shape[2:]).flatten(1, 2) for x in (k, v))
        score = torch.where(torch.arange(KEYS) <= position, q @ k.mT, -math.inf)
        return torch.softmax(score, -1) @ v

    args = real(2, 6, 1, 16), K, V, torch.tensor([280])
    assert_runs(compiled(f, *args, on=WIDE), f, *args)


def test_half_precision():
    def f(q, k, v, position):
        score = torch.where(torch.arange(KEYS) <= position, (q @ k.mT).float(), -math.inf)
        return torch.softmax(score, -1).to(v.dtype) @ v

    args = *(x.bfloat16() for x in (Q, K, V)), torch.tensor([280])
    program = compile_graph(graph_of(f, *args), WIDE)
    assert any(k.nest.attention is not None and k.nest.attention.part is not None for k in program.kernels)


def test_positions_left_out_are_seen():
    """The positive control: with a shorter range of positions, the same program gives something else."""
    function = attended(lambda key, p: key <= p)
    args = Q * 0.1, K, V, torch.tensor([280])
    program = compiled(function, *args, on=WIDE)
    assert_runs(program, function, *args)
    shorter = []
    for kernel in program.kernels:
        if (a := kernel.nest.attention) is not None:
            a = dataclasses.replace(a, stop=build.sub(a.stop, build.const(64)))
        shorter.append(dataclasses.replace(kernel, nest=dataclasses.replace(kernel.nest, attention=a)))
    with pytest.raises(AssertionError):
        assert_runs(dataclasses.replace(program, kernels=tuple(shorter)), function, *args)
