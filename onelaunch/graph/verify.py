"""What is legal at each level, as one table: a graph that no rule accepts is a bug of the pass that made it.

Levels, in the order a graph goes through them:

``imported``  straight from the frontend: single assignment, every node plain, a scatter, or an attention
``fused``     after the graph passes: no free node is left unless its value has to be stored
``ordered``   after ``inplace``: nodes name storages, and the order of nodes carries meaning
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from onelaunch.errors import OnelaunchError
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.nest import Kind


class Level(enum.Enum):
    """Stages of a graph, each with its own rules."""

    IMPORTED = "imported"
    FUSED = "fused"
    ORDERED = "ordered"


class GraphError(OnelaunchError):
    """A pass made a graph that its level does not allow: a bug of ours."""


def verify(graph: Graph, level: Level, nodes: Iterable[Node] | None = None) -> None:
    """Check a graph (or, when ordered, its ``nodes`` on their storages) against the rules of a level.

    Raises GraphError naming the node and the rule.
    """
    values = graph.values()
    for node in graph.nodes if nodes is None else nodes:
        for rule in RULES[level]:
            for complaint in rule(node, values):
                raise GraphError(f"{level.value} graph: node {node.out.name}: {complaint}")
    if level is not Level.ORDERED:
        _verify_assignment(graph)


def _verify_assignment(graph: Graph) -> None:
    known = {a.value.name for a in graph.arguments}
    for node in graph.nodes:
        if node.out.name in known:
            raise GraphError(f"value {node.out.name} is computed twice")
        for name in (*node.reads, *((node.base,) if node.base else ())):
            if name not in known:
                raise GraphError(f"node {node.out.name} uses {name} before it is computed")
        known.add(node.out.name)
    for name in (*graph.outputs, *(value for _, value in graph.updates)):
        if name not in known:
            raise GraphError(f"output or update {name} is never computed")


def _loads_fit(node: Node, values: dict[str, Value]) -> Iterator[str]:
    for e in node.nest.loads():
        value = values.get(e.attr)
        if value is None:
            yield f"loads unknown value {e.attr}"
        elif len(e.args) != len(value.shape):
            yield f"indexes {e.attr} of {len(value.shape)} dimensions with {len(e.args)}"
        elif e.dtype is not value.dtype:
            yield f"loads {e.attr} of type {value.dtype} as {e.dtype}"


def _indices_are_integers(node: Node, values: dict[str, Value]) -> Iterator[str]:
    for root in node.nest.exprs():
        for e in walk(root):
            if e.op is Op.LOAD and not all(i.dtype.is_int for i in e.args):
                yield f"indexes {e.attr} with something that is not an integer"


def _variables_are_bound(node: Node, values: dict[str, Value]) -> Iterator[str]:
    nest = node.nest
    own = set(nest.vars)
    queries = set(nest.vars[:-1])
    scopes: list[tuple[str, Expr, set[Expr]]] = [("body", nest.body, own)]
    scopes.extend(("index", i, own) for i in nest.index)
    for c in nest.contractions:
        scopes.append(("contraction", c.x, queries | {c.var}))
        scopes.append(("matrix", c.w, own | {c.var}))
    if (a := nest.attention) is not None:
        scopes += [("query", a.q, queries | {a.head}), ("score", a.score, queries | {a.key})]
        scopes += [("keys", a.k, queries | {a.key, a.head}), ("values", a.v, own | {a.key})]
        scopes += [("span", e, queries) for e in (a.start, a.stop) if e is not None]
        scopes += [("scan", e, queries | {a.key}) for e in (a.scan,) if e is not None]
        if a.part is not None and a.part not in queries:
            yield f"counts its parts with {a.part}, which is none of its rows' variables"
    for where, e, allowed in scopes:
        loose = e.free - allowed
        if loose:
            yield f"its {where} uses {', '.join(sorted(v.attr for v in loose))}, which no loop binds"


def _sums_are_finished(node: Node, values: dict[str, Value]) -> Iterator[str]:
    available = max(len(node.nest.contractions), int(node.nest.attention is not None))
    used = {e.attr for root in (node.nest.body, *node.nest.index) for e in walk(root) if e.op is Op.ACC}
    if any(n >= available for n in used):
        yield f"uses sum {max(used)} of {available}"


def _target_fits(node: Node, values: dict[str, Value]) -> Iterator[str]:
    if len(node.nest.index) != len(node.out.shape):
        yield f"stores at {len(node.nest.index)} indices into {len(node.out.shape)} dimensions"
    if node.base is None and node.nest.kind is Kind.SCATTER:
        yield "stores at computed indices but starts from no value"


def _target_is_own(node: Node, values: dict[str, Value]) -> Iterator[str]:
    if node.nest.target != node.out.name:
        yield f"stores into {node.nest.target}"


def _matrices_are_loads(node: Node, values: dict[str, Value]) -> Iterator[str]:
    for c in node.nest.contractions:
        if c.w.op is not Op.LOAD:
            yield "multiplies with a matrix that is not a load"


def _conditions_are_bool(node: Node, values: dict[str, Value]) -> Iterator[str]:
    for root in node.nest.exprs():
        for e in walk(root):
            if e.op is Op.WHERE and e.args[0].dtype is not DType.BOOL:
                yield "chooses by something that is not a bool"


Rule = Callable[[Node, dict[str, Value]], Iterator[str]]
_ALWAYS: list[Rule] = [
    _loads_fit, _indices_are_integers, _variables_are_bound, _sums_are_finished, _target_fits, _matrices_are_loads,
    _conditions_are_bool,
]  # fmt: skip
RULES: dict[Level, list[Rule]] = {
    Level.IMPORTED: [*_ALWAYS, _target_is_own],
    Level.FUSED: [*_ALWAYS, _target_is_own],
    Level.ORDERED: [r for r in _ALWAYS if r is not _target_fits],
}
