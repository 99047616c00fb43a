"""Attention over caches in pages as the passes see it: split along positions, never given the newest position."""

from __future__ import annotations

import torch

from onelaunch.check import check
from onelaunch.graph.nest import Kind
from onelaunch.program import machine as machines
from onelaunch.targets.cuda.emit import generate
from onelaunch.transform import compile_graph
from onelaunch.transform import optimise
from onelaunch.transform.split import best_parts
from tests.cpu.test_codegen_attend import Setup
from tests.lowering import test_paged
from tests.transform.graphs import assert_runs
from tests.transform.graphs import compiled
from tests.transform.graphs import graph_of
from tests.transform.graphs import machine

LONG = 1024  # pages of 4 positions


def long_step(lengths: list[int]) -> list[torch.Tensor]:
    return test_paged.inputs(lengths, torch.bfloat16, pages=LONG)


def attention(graph):
    (found,) = [n for n in graph.nodes if n.nest.kind is Kind.ATTEND]
    return found.nest


def test_one_sequence_is_split_as_over_a_cache_in_one_piece():
    graph = graph_of(test_paged.step(), *long_step([20]))
    counts = optimise(graph, machines.cuda(), verified=True)
    assert counts["split"] == 1 and counts["forward"] == 0
    whole = Setup(test_paged.HEADS, test_paged.KV, test_paged.SIZE, LONG * test_paged.PAGE, torch.bfloat16).nest()
    part = attention(graph).attention.part
    assert int(part.args[0].value) == best_parts(whole, machines.cuda())


def test_a_step_for_a_gpu_is_certified():
    for lengths in ([20], [5, 0, 17]):
        program = compile_graph(graph_of(test_paged.step(), *long_step(lengths)), machines.cuda(), verified=True)
        check(program)
        assert "const Pages cache" in generate(program).text()


def test_the_store_comes_before_attention():
    """Data say where a position lies, so nothing is known of which one was just stored."""
    for args, function in (
        (test_paged.inputs([5, 17]), test_paged.step()),
        (test_paged.inputs([3], pages=1), test_paged.step()),
    ):
        program = compiled(function, *args, on=machine(forwards=True))
        ops = [op.split()[0] for op in program.ops]
        assert ops.index("scatter") < ops.index("attend"), program.ops
        assert_runs(program, function, *args)
