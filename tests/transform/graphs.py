"""Small graphs for tests of passes: a Python function over fake arguments, lowered without Dynamo."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from onelaunch.check import check
from onelaunch.frontend.capture import decompositions
from onelaunch.frontend.lower import lower
from onelaunch.graph.dtype import DType
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.nest import Kind
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program
from onelaunch.transform import compile_graph
from tests.lowering.single import launch

# A machine of round numbers: 1 multiply-add a ns, dependencies dear enough that recomputing little is cheaper.
MACHINE = Machine(
    name="synthetic", workers=4, bandwidth=10.0, flops=1.0, transcendental=10.0, dependency=1000.0, task=100.0,
    activation=DType.F32, linear_rows=8, alignment=64,
)  # fmt: skip


def machine(**changes: Any) -> Machine:
    """The synthetic machine with other costs."""
    return dataclasses.replace(MACHINE, **changes)


def graph_of(function: Callable[..., Any], *args: torch.Tensor, weights: Sequence[int] = ()) -> Graph:
    """The graph of ``function`` before any pass. Writes to arguments are updates; ``weights`` numbers constant ones."""
    module = traced(function, *args)
    holders = [n for n in module.graph.nodes if n.op == "placeholder"]
    return lower(module, {holders[i].name for i in weights}, {}, "small")


def traced(function: Callable[..., Any], *args: torch.Tensor) -> torch.fx.GraphModule:
    """Functional Core ATen with ``copy_`` to arguments at the end, as AOTAutograd gives it."""

    def flat(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = function(*given)
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    with torch.no_grad():
        functional = torch.func.functionalize(flat, remove="mutations_and_views")
        module = make_fx(functional, decomposition_table=decompositions(), tracing_mode="fake")(*args)
    output = next(n for n in module.graph.nodes if n.op == "output")
    results = output.args[0] if isinstance(output.args[0], tuple | list) else (output.args[0],)
    output.args = (tuple(results),)
    return module


def node_named(graph: Graph, part: str) -> Node:
    """The one node whose name begins with ``part``."""
    (found,) = [n for n in graph.nodes if n.out.name.startswith(part)]
    return found


def kinds(graph: Graph) -> list[str]:
    """The kinds of the graph's nests, in order."""
    return [n.nest.kind.value for n in graph.nodes]


def linears(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.nest.kind is Kind.LINEAR]


def compiled(
    function: Callable[..., Any], *args: torch.Tensor, on: Machine = MACHINE, weights: Sequence[int] = ()
) -> Program:
    """The certified program of ``function``."""
    program = compile_graph(graph_of(function, *args, weights=weights), on, verified=True)
    check(program)
    return program


def outcome(program: Program, function: Callable[..., Any], *args: torch.Tensor) -> list[tuple]:
    """(ours, torch's) of every result and of every argument afterwards."""
    theirs, ours = ([torch.empty_strided(a.shape, a.stride(), dtype=a.dtype).copy_(a) for a in args] for _ in range(2))
    wanted = function(*theirs)
    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    results = [torch.empty_strided(w.shape, w.stride(), dtype=w.dtype) for w in wanted]
    launch(program, ours, results)
    return [*zip(results, wanted, strict=True), *zip(ours, theirs, strict=True)]


def assert_runs(program: Program, function: Callable[..., Any], *args: torch.Tensor) -> None:
    """The program does what the function does."""
    for found, wanted in outcome(program, function, *args):
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5, equal_nan=True)
