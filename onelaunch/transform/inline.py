"""Inlining: a load of a value becomes the expression that computes it. The one primitive of every fusion."""

from __future__ import annotations

from collections.abc import Mapping

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import rewrite
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Node
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest


def is_plain(node: Node) -> bool:
    """A node that computes each element of its value by one expression: what can be inlined."""
    return node.base is None and node.nest.kind is Kind.ROWS


def element(node: Node, index: tuple[Expr, ...]) -> Expr:
    """The expression of one element of a plain node's value."""
    mapping = {v: i for v, i in zip(node.nest.index, index, strict=True) if v.op is Op.VAR}
    return substitute(node.nest.body, mapping)


def inline(nest: Nest, producers: Mapping[str, Node]) -> Nest:
    """``nest`` with every load of a producer's value replaced by its expression (producers must be plain)."""
    if not any(e.attr in producers for e in nest.loads()):
        return nest
    memo: dict[Expr, Expr] = {}

    def expand(e: Expr) -> Expr | None:
        if e.op is Op.LOAD and e.attr in producers:
            return element(producers[e.attr], e.args)
        return None

    def rule(root: Expr) -> Expr:
        return rewrite(root, expand, memo) if any(e.attr in producers for e in loads(root)) else root

    return nest.map(rule)


def loads_of(nest: Nest, name: str) -> list[Expr]:
    """The distinct loads of one value."""
    return [e for e in nest.loads() if e.attr == name]


def inside_reduction(nest: Nest, load: Expr) -> bool:
    """True where ``load`` stands below a reduction of the nest's body or index."""
    for root in (nest.body, *nest.index):
        for e in walk(root):
            if e.op is Op.REDUCE and any(sub is load for sub in walk(e.args[1])):
                return True
    return False
