"""From graph to program: fold, linearise, fuse, recognise attention, order, tile, place."""

from __future__ import annotations

from onelaunch.graph.graph import Graph
from onelaunch.program.machine import Machine
from onelaunch.program.program import Program


def optimise(graph: Graph, machine: Machine) -> dict[str, int]:
    """Run the graph passes in place; returns how often each one rewrote something."""
    from onelaunch.transform import attention
    from onelaunch.transform import fuse
    from onelaunch.transform.fold import fold
    from onelaunch.transform.linear import linearise
    from onelaunch.transform.span import find_spans

    counts = {
        "fold": fold(graph),
        "linearise": linearise(graph),
        "chain": fuse.chain(graph, machine),
        "attention": attention.recognise(graph),
        "epilogue": fuse.epilogue(graph),
        "share": fuse.share(graph, machine),
    }
    graph.prune()
    counts["span"] = find_spans(graph)
    return counts


def compile_graph(graph: Graph, machine: Machine) -> Program:
    """The program of a graph for a machine; the graph is used up."""
    from onelaunch.transform.assemble import assemble
    from onelaunch.transform.inplace import inplace

    optimise(graph, machine)
    return assemble(graph, inplace(graph), machine)
