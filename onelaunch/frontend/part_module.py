"""Makes modules of the parts of a partition: what each takes, what each gives."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Container

import torch
from torch.fx import Graph
from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend import nodes
from onelaunch.frontend.partition import Part
from onelaunch.frontend.partition import Partition
from onelaunch.frontend.partition import operands


@dataclasses.dataclass(slots=True)
class PartModule:
    """A part as a module: it takes the values of ``inputs`` and returns a tuple of the values of ``outputs``."""

    lowered: bool
    module: GraphModule
    inputs: list[Node]  # nodes of the whole graph
    outputs: list[Node]  # nodes of the whole graph
    constants: set[str]  # names of the module's placeholders that never change


def part_modules(
    whole: GraphModule, cut: Partition, results: list[tuple[int, Node]], constants: set[str]
) -> list[PartModule]:
    """One module a part. ``results``: (part, node) of what the caller wants besides what later parts read."""
    order = {n: i for i, n in enumerate(whole.graph.nodes)}
    owned = _aliases(whole, cut)
    for node in owned:
        node.meta["val"] = node.meta["val"].clone()
    sizes = [n for n in whole.graph.nodes if n.op == "placeholder" and isinstance(n.meta.get("val"), torch.SymInt)]
    stored: dict[Node, Node] = {}  # value -> the argument that holds it since an earlier part
    reads: list[list[Node]] = []
    views: list[dict[Node, Node]] = []
    for number, part in enumerate(cut.parts):
        extra = [n for p, n in results if p == number]
        found = _reads(part, extra, cut.torch_nodes, stored)
        if part.lowered:
            found.update(dict.fromkeys(sizes))
        reads.append(sorted(found, key=order.__getitem__))
        views.append({v: a for v, a in stored.items() if a in found and v not in part.nodes})
        stored.update(_stored_by(part))
    modules = []
    for number, part in enumerate(cut.parts):
        later = {n for r in reads[number + 1 :] for n in r}
        outputs = dict.fromkeys(n for n in part.nodes if n in later)
        outputs.update({n: None for p, n in results if p == number})
        modules.append(_extract(whole, part, reads[number], list(outputs), views[number], constants))
        if not part.lowered:
            _own(modules[-1], owned)
    return modules


def copy(node: Node, graph: Graph, made: dict[Node, Node], inside: Container[Node] = ()) -> Node:
    """The copy of ``node`` in ``graph``, made together with the views it needs; ``made`` remembers.

    Only nodes ``inside`` and what costs nothing may be copied: the rest is computed elsewhere and in ``made`` already.
    """
    stack = [node]
    while stack:
        current = stack[-1]
        missing = [n for n in current.all_input_nodes if n not in made] if current not in made else []
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        if current not in made:
            assert current in inside or nodes.is_free(current), f"{current} is computed in another part"
            made[current] = graph.node_copy(current, made.__getitem__)
            made[current].meta = dict(current.meta)
    return made[node]


def _reads(part: Part, extra: list[Node], torch_nodes: set[Node], stored: dict[Node, Node]) -> dict[Node, None]:
    inside = set(part.nodes)
    found: dict[Node, None] = {}
    for node in (*part.nodes, *extra):
        found.update({stored.get(n, n): None for n in operands(node, torch_nodes) if n not in inside})
    return found


def _aliases(whole: GraphModule, cut: Partition) -> set[Node]:
    """Tensors that torch's views take from an argument which is updated in place.

    A later part must not get them as they are: it would see the update, or share memory with what it writes.
    """
    written = {n.args[0] for n in whole.graph.nodes if nodes.is_update(n)}
    found: set[Node] = set()
    for node in whole.graph.nodes:
        aliases = node in cut.torch_nodes and (nodes.is_view(node) or node.target is operator.getitem)
        if aliases and any(o in written or o in found for o in operands(node, cut.torch_nodes)):
            found.add(node)
    return {n for n in found if isinstance(n.meta.get("val"), torch.Tensor)}


def _own(part: PartModule, aliases: set[Node]) -> None:
    """Give ``aliases`` among the part's results memory of their own."""
    end = next(n for n in reversed(part.module.graph.nodes) if n.op == "output")
    results = list(end.args[0])
    for i, node in enumerate(part.outputs):
        if node in aliases:
            with part.module.graph.inserting_after(results[i]):  # before any update of the argument
                results[i] = part.module.graph.call_function(torch.ops.aten.clone.default, (results[i],))
    end.args = (tuple(results),)
    part.module.recompile()


def _stored_by(part: Part) -> dict[Node, Node]:
    """Values of the part that an argument of the same layout holds when the part has run."""
    found: dict[Node, Node] = {}
    for node in part.nodes:
        if nodes.is_update(node):
            argument, value = node.args[:2]
            assert isinstance(argument, Node) and isinstance(value, Node)
            if value in part.nodes and _layout(argument) == _layout(value):
                found[value] = argument
    return found


def _layout(node: Node) -> tuple[str, ...]:
    value = node.meta["val"]
    return str(value.dtype), str(tuple(value.shape)), str(value.stride()), str(value.device)


def _extract(
    whole: GraphModule,
    part: Part,
    inputs: list[Node],
    outputs: list[Node],
    stored: dict[Node, Node],
    constants: set[str],
) -> PartModule:
    graph = Graph()
    made: dict[Node, Node] = {}
    for node in inputs:
        made[node] = graph.placeholder(node.name)
        made[node].meta = dict(node.meta)
    made.update({value: made[argument] for value, argument in stored.items()})
    inside = set(part.nodes)
    for node in part.nodes:
        copy(node, graph, made, inside)
    results = tuple(copy(n, graph, made, inside) for n in outputs)
    _updates_last(graph)
    graph.output(results)
    named = {made[n].name for n in inputs if n.name in constants}
    return PartModule(part.lowered, GraphModule(whole, graph), inputs, outputs, named)


def _updates_last(graph: Graph) -> None:
    """Move in-place updates behind everything that may still read the old values."""
    last = next(iter(reversed(graph.nodes)), None)
    for node in [n for n in graph.nodes if nodes.is_update(n)]:
        if last is not None and node is not last:
            last.append(node)
            last = node
