"""Attention that takes the newest key and value from where they were computed: the same result, fewer waits."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from onelaunch.graph.nest import Kind
from onelaunch.targets.source.newest import split_newest
from onelaunch.transform import optimise
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

HEADS, GROUPS, SIZE, KEYS, HIDDEN = 4, 2, 8, 80, 16
FORWARDS = machine(forwards=True)


def step(x, wq, wk, wv, keys, values, position):
    """One token: its key and value into the caches, then attention over all positions so far."""
    q = (x @ wq.T).view(-1, HEADS, 1, SIZE)
    keys[:, :, position] = (x @ wk.T).view(-1, GROUPS, SIZE).to(keys.dtype).unsqueeze(2)
    values[:, :, position] = (x @ wv.T).view(-1, GROUPS, SIZE).to(values.dtype).unsqueeze(2)
    k, v = (c.repeat_interleave(HEADS // GROUPS, 1) for c in (keys, values))
    score = torch.where(torch.arange(KEYS) <= position, (q @ k.mT).float() * 0.3, -math.inf)
    return torch.softmax(score, -1).to(v.dtype) @ v


def normed(x, wq, wk, wv, keys, values, position):
    """The same where keys are normed and turned: no load of a value, but an expression over a row of one."""
    q = (x @ wq.T).view(-1, HEADS, 1, SIZE)
    k = (x @ wk.T).view(-1, GROUPS, SIZE).float()
    k = k * torch.rsqrt(k.pow(2).mean(-1, keepdim=True) + 1e-5)
    angle = position * torch.pow(0.1, torch.arange(SIZE) % (SIZE // 2))
    k = k * angle.cos() + torch.cat([-k[..., SIZE // 2 :], k[..., : SIZE // 2]], -1) * angle.sin()
    keys[:, :, position] = k.to(keys.dtype).unsqueeze(2)
    values[:, :, position] = (x @ wv.T).view(-1, GROUPS, SIZE).to(values.dtype).unsqueeze(2)
    k, v = (c.repeat_interleave(HEADS // GROUPS, 1) for c in (keys, values))
    score = torch.where(torch.arange(KEYS) <= position, (q @ k.mT).float() * 0.3, -math.inf)
    return torch.softmax(score, -1).to(v.dtype) @ v


def inputs(batch=1, dtype=torch.float32, position=37):
    torch.manual_seed(0)
    sizes = [(batch, HIDDEN), *((n * SIZE, HIDDEN) for n in (HEADS, GROUPS, GROUPS))]
    tensors = [torch.randn(s).to(dtype) / 2 for s in sizes]
    caches = [torch.randn(batch, GROUPS, KEYS, SIZE).to(dtype) for _ in range(2)]
    return *tensors, *caches, torch.tensor([position])


def attention(graph):
    (found,) = [n for n in graph.nodes if n.nest.kind is Kind.ATTEND]
    return found


def test_the_old_cache_is_read_and_the_new_position_put_in():
    graph = graph_of(step, *inputs(), weights=(1, 2, 3))
    assert optimise(graph, FORWARDS, verified=True)["forward"] == 1
    node = attention(graph)
    cached, newest = split_newest(node.nest.attention)
    assert newest is not None and newest.at.dtype.is_int
    arguments = {a.value.name for a in graph.arguments}
    table = {n.out.name: n for n in graph.nodes}
    assert {e.attr for e in node.nest.loads() if e.attr in table} and all(
        table[r].base is None for r in node.reads if r in table
    )
    assert sum(r in arguments for r in node.reads) >= 3  # both caches and the position
    assert cached.k is not node.nest.attention.k


def test_what_is_stored_has_a_value_of_its_own_unless_it_is_one():
    for function, new in ((step, 0), (normed, 1)):
        graph = graph_of(function, *inputs(), weights=(1, 2, 3))
        optimise(graph, FORWARDS, verified=True)
        names = [n.out.name for n in graph.nodes if n.out.name.endswith(".new")]
        assert len(names) == new, "keys that are turned, once"
        readers = [n for n in graph.nodes if set(names) & set(n.reads)]
        assert not names or {n.nest.kind for n in readers} == {Kind.ATTEND, Kind.SCATTER}


def test_only_where_the_machine_gains_by_it():
    assert optimise(graph_of(step, *inputs(), weights=(1, 2, 3)), machine())["forward"] == 0


@pytest.mark.parametrize("function", [step, normed])
@pytest.mark.parametrize("position", [0, 1, 37, KEYS - 1])
@pytest.mark.parametrize("batch", [1, 3])
def test_runs(position, batch, function):
    given = inputs(batch, position=position)
    program = compiled(function, *given, on=FORWARDS, weights=(1, 2, 3))
    assert_runs(program, function, *given)


def test_the_store_comes_after_attention():
    program = compiled(step, *inputs(), on=FORWARDS, weights=(1, 2, 3))
    ops = [op.split()[0] for op in program.ops]
    assert ops.index("attend") < ops.index("scatter"), program.ops


def test_two_positions_stored_at_once_are_waited_for():
    def two(keys, q, new, at):
        keys[:, :, at] = new
        score = torch.softmax(q @ keys.mT, -1)
        return score @ keys

    given = torch.randn(1, 2, KEYS, SIZE), torch.randn(1, 2, 1, SIZE), torch.randn(1, 2, 2, SIZE), torch.tensor([3, 5])
    graph = graph_of(two, *given)
    assert optimise(graph, FORWARDS)["forward"] == 0
    assert_runs(compiled(two, *given, on=FORWARDS), two, *given)


def test_split_and_forwarded():
    on = dataclasses.replace(FORWARDS, workers=16, attend_parts=2, dependency=10.0, task=10.0)
    given = inputs()
    graph = graph_of(step, *given, weights=(1, 2, 3))
    counts = optimise(graph, on, verified=True)
    assert counts["forward"] == counts["split"] == 1
    assert_runs(compiled(step, *given, on=on, weights=(1, 2, 3)), step, *given)
