"""From graph to program: fold, linearise, fuse, recognise attention, order, tile, place."""

from __future__ import annotations

from collections.abc import Callable

from onelaunch.graph.graph import Graph
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program

Pass = Callable[[Graph, Machine], int]


def passes() -> dict[str, Pass]:
    """The graph passes by name, in the order they run; each rewrites in place and returns how often."""
    from onelaunch.transform import attention
    from onelaunch.transform import fuse
    from onelaunch.transform.fold import fold
    from onelaunch.transform.forward import forward
    from onelaunch.transform.linear import linearise
    from onelaunch.transform.span import find_spans
    from onelaunch.transform.split import split

    return {
        "fold": lambda graph, _: fold(graph),
        "linearise": lambda graph, _: linearise(graph),
        "chain": fuse.chain,
        "attention": lambda graph, _: attention.recognise(graph),
        "epilogue": lambda graph, _: fuse.epilogue(graph),
        "share": fuse.share,
        "span": lambda graph, _: find_spans(graph),
        "forward": forward,
        "split": split,
    }


def optimise(graph: Graph, machine: Machine, verified: bool = False) -> dict[str, int]:
    """Run the graph passes in place; returns how often each one rewrote something.

    ``verified``: check the graph against its level's rules before the first pass and after every one (GraphError).
    """
    from onelaunch.graph.verify import Level
    from onelaunch.graph.verify import verify

    counts: dict[str, int] = {}
    if verified:
        verify(graph, Level.IMPORTED)
    for name, run in passes().items():
        counts[name] = run(graph, machine)
        graph.prune()
        if verified:
            verify(graph, Level.FUSED)
    return counts


def compile_graph(graph: Graph, machine: Machine, verified: bool = False) -> Program:
    """The program of a graph for a machine; the graph is used up. ``verified`` as of ``optimise``."""
    from onelaunch.graph.verify import Level
    from onelaunch.graph.verify import verify
    from onelaunch.transform.assemble import assemble
    from onelaunch.transform.inplace import inplace

    optimise(graph, machine, verified)
    ordered = inplace(graph)
    if verified:
        verify(graph, Level.ORDERED, ordered.nodes)
    return assemble(graph, ordered, machine)
