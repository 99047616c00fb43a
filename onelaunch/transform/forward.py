"""Forward: attention takes the keys and values that a step has just stored from where they were computed.

before  c1 = c0 with c1[h, at, d] = new[h, d];   o = attend(q, c1[h, key, d])
after   o = attend(q, where(key == at, new[h, d], c0[h, key, d]));   c1 as before

So attention waits for the projection alone, and the store into the cache comes after it, where nobody waits for it.
"""

from __future__ import annotations

import dataclasses

from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.program.machine import Machine


def forward(graph: Graph, machine: Machine) -> int:
    """Forward into every attention where the machine gains by it, in place; returns how many."""
    if not machine.forwards:
        return 0
    count = 0
    table, values = {n.out.name: n for n in graph.nodes}, graph.values()
    for node in graph.nodes:
        a = node.nest.attention
        if a is None:
            continue
        keys, data = (_forwarded(e, a.key, table, values) for e in (a.k, a.v))
        if keys is None or data is None or keys[0] is not data[0]:
            continue
        node.nest = dataclasses.replace(node.nest, attention=dataclasses.replace(a, k=keys[1], v=data[1]))
        count += 1
    return count


def _forwarded(e: Expr, key: Expr, table: dict[str, Node], values: dict[str, Value]) -> tuple[Expr, Expr] | None:
    """The position that was stored, and ``e`` with what was stored in the place of a load of it."""
    if e.op is Op.CAST:
        inner = _forwarded(e.args[0], key, table, values)
        return None if inner is None else (inner[0], build.cast(inner[1], e.dtype))
    if e.op is not Op.LOAD or e.attr not in table or table[e.attr].base is None:
        return None
    node = table[e.attr]
    base = values[str(node.base)]
    stored = _stored(node, base, e.args, key)
    if stored is None:
        return None
    at, new = stored
    old = build.load(base.name, e.args, base.dtype)
    return at, build.where(build.eq(key, at), build.cast(new, base.dtype), old)


def _stored(node: Node, base: Value, place: tuple[Expr, ...], key: Expr) -> tuple[Expr, Expr] | None:
    """(position, value) of a store that fills all of its base at one position of the dimension that ``key`` indexes."""
    nest = node.nest
    if nest.contractions or nest.attention is not None or nest.walked:
        return None
    mapping: dict[Expr, Expr] = {}
    at: Expr | None = None
    for index, asked, extent in zip(nest.index, place, base.shape, strict=True):
        if asked is key:
            at = index
        elif index.op is Op.VAR and index.args[0] is extent and index not in mapping:
            mapping[index] = asked
        elif not (index is asked and index.is_const):
            return None
    if at is None or at.op is Op.VAR or set(nest.vars) != set(mapping) or any(key in p.free for p in mapping.values()):
        return None
    if any(e.attr == base.name for e in nest.loads()):
        return None
    return substitute(at, mapping), substitute(nest.body, mapping)
