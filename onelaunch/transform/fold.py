"""Fold what costs nothing: views, casts, concatenations, constants and index arithmetic go into their users.

before  view = %mm[i0, i1 * 64 + i2];  mask = %pos[0] >= i1;  use = %view[0, j] ...
after   use = %mm[0, j] ...
"""

from __future__ import annotations

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.transform.inline import inline
from onelaunch.transform.inline import is_plain

_FREE = frozenset({Op.CONST, Op.SYM, Op.VAR, Op.LOAD, Op.CAST, Op.WHERE})
_FREE_ON_INTEGERS = frozenset(
    {Op.ADD, Op.SUB, Op.MUL, Op.FLOORDIV, Op.MOD, Op.MIN, Op.MAX, Op.NEG, Op.LT, Op.LE, Op.EQ, Op.NE, Op.AND, Op.OR,
     Op.XOR, Op.NOT}
)  # fmt: skip


def is_free(node: Node) -> bool:
    """Moves or selects data and computes indices and masks, but does no arithmetic on floats."""
    return is_plain(node) and all(_free(e) for e in walk(node.nest.body))


def _free(e: Expr) -> bool:
    if e.op in _FREE:
        return True
    return e.op in _FREE_ON_INTEGERS and not any(a.dtype.is_float for a in e.args)


def fold(graph: Graph) -> int:
    """Inline every free node into all its users, in place; returns how many were."""
    free: dict[str, Node] = {}
    for node in graph.nodes:
        node.nest = inline(node.nest, free)
        if is_free(node):
            free[node.out.name] = node
    graph.prune()
    return len(free)
