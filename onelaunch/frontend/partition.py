"""Which nodes of a graph are lowered together, and which stay in torch between them.

A graph is cut into *parts*, alternately lowered and torch, run one after the other. A node's part is the earliest one
of its kind that has all its operands, so no cut of the graph has fewer parts than the longest chain of alternations
demands. Views and arithmetic on sizes belong to no part: every part repeats those that it needs.

An in-place update (``copy_`` to an argument) goes to the first part in which the new value exists and after which
nobody reads the old one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping

from torch.fx import GraphModule
from torch.fx import Node

from onelaunch.frontend import fallback
from onelaunch.frontend import nodes
from onelaunch.frontend.fallback import Fallback

Refuse = Callable[[Node], str | None]


@dataclasses.dataclass(slots=True)
class Part:
    """Nodes that run together, in graph order."""

    lowered: bool
    nodes: list[Node]


@dataclasses.dataclass(slots=True)
class Partition:
    """The parts in the order they run, and why some of them are torch's."""

    parts: list[Part]
    fallbacks: list[Fallback]
    torch_nodes: set[Node]


def partition(module: GraphModule, refuse: Refuse) -> Partition:
    """Cut ``module`` (functional ATen) into parts; ``refuse(node)`` is the reason to leave a node to torch, or None."""
    fallbacks = []
    torch_nodes: set[Node] = set()
    for node in module.graph.nodes:
        reason = _reason(node, refuse)
        if reason is not None:
            fallbacks.append(fallback.of_node(node, reason))
            torch_nodes.add(node)
        elif node.target is operator.getitem and node.args[0] in torch_nodes:
            torch_nodes.add(node)
    members = _members(module, torch_nodes)
    parts = _cut(members, torch_nodes)
    while torch_nodes and (trivial := [p for p in parts if p.lowered and not _worth_it(p)]):
        torch_nodes.update(n for p in trivial for n in p.nodes)
        parts = _cut(members, torch_nodes)
    return Partition(parts, fallbacks, torch_nodes)


def operands(node: Node, torch_nodes: Container[Node] = ()) -> list[Node]:
    """The computed nodes and placeholders that a node reads, seen through whatever is repeated where it is needed."""
    found: dict[Node, None] = {}
    stack = list(reversed(node.all_input_nodes))
    seen: set[Node] = set()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if nodes.is_free(n) and n not in torch_nodes:
            stack.extend(reversed(n.all_input_nodes))
        else:
            found.setdefault(n)
    return list(found)


def _reason(node: Node, refuse: Refuse) -> str | None:
    if node.op in ("placeholder", "output") or nodes.is_update(node) or nodes.is_pick(node):
        return None
    if node.op == "get_attr" or (nodes.is_free(node) and not nodes.is_view(node)):
        return None
    if node.op == "call_function" and nodes.is_random(node):
        return "random numbers (a model in training mode? call model.eval())"
    return refuse(node)


def _members(module: GraphModule, torch_nodes: set[Node]) -> list[Node]:
    """The nodes that belong to parts: all that compute, and are used or have an effect."""
    return [
        n
        for n in module.graph.nodes
        if n.op in ("call_function", "call_module", "call_method")
        and (n in torch_nodes or not nodes.is_free(n))
        and (n.users or nodes.is_update(n) or nodes.is_impure(n))
    ]


def _cut(members: list[Node], torch_nodes: set[Node]) -> list[Part]:
    """The shorter of two cuts: the first part lowered, or the first part torch's."""
    return min((_stages(members, torch_nodes, first) for first in (True, False)), key=len)


def _stages(members: list[Node], torch_nodes: set[Node], first: bool) -> list[Part]:
    stage: dict[Node, int] = {}
    updates = [n for n in members if nodes.is_update(n)]
    for node in members:
        if nodes.is_update(node):
            continue
        if nodes.is_pick(node):
            producer = node.args[0]
            assert isinstance(producer, Node)
            stage[node] = stage[producer]
            continue
        earliest = max((stage[o] for o in operands(node, torch_nodes) if o in stage), default=0)
        stage[node] = _next(earliest, (node not in torch_nodes) == first)
    readers = _readers(stage, torch_nodes)
    for node in updates:
        target = node.args[0]
        assert isinstance(target, Node)
        before = [stage[n] for n in (*operands(node, torch_nodes), *readers.get(target, ())) if n in stage]
        stage[node] = max(before, default=0 if first else 1)
        if node in torch_nodes:
            stage[node] = _next(stage[node], not first)
    numbers = sorted(set(stage.values()))
    order = {n: i for i, n in enumerate(members)}
    parts = {s: Part((s % 2 == 0) == first, []) for s in numbers}
    for node in sorted(stage, key=order.__getitem__):
        parts[stage[node]].nodes.append(node)
    return [parts[s] for s in numbers]


def _next(earliest: int, even: bool) -> int:
    """The first stage from ``earliest`` on with the wanted parity."""
    return earliest if (earliest % 2 == 0) == even else earliest + 1


def _readers(stage: Mapping[Node, int], torch_nodes: set[Node]) -> dict[Node, list[Node]]:
    """Who reads each placeholder, directly, through views, or through a torch node that may be a view."""
    found: dict[Node, list[Node]] = {}
    roots: dict[Node, set[Node]] = {}
    for node in stage:
        for operand in operands(node, torch_nodes):
            for root in {operand} if operand.op == "placeholder" else roots.get(operand, ()):
                found.setdefault(root, []).append(node)
                if node in torch_nodes and (nodes.is_view(node) or nodes.is_pick(node)):
                    roots.setdefault(node, set()).add(root)
    return found


def _worth_it(part: Part) -> bool:
    """A part is worth a launch if it does more than to move data and compute positions."""
    return any(not (nodes.is_trivial(n) or nodes.is_update(n)) for n in part.nodes)
