"""Forward: attention takes the keys and values that a step has just stored from where they were computed.

before  c1 = c0 with c1[h, at, d] = f(x)[h, d];                         o = attend(q, c1[h, key, d])
after   new = f(x);  o = attend(q, where(key == at, new[h, d], c0[h, key, d]));   c1 = c0 with c1[h, at, d] = new[h, d]

So attention waits for the new rows alone, which are values like any other, and the store into the cache comes after it,
where nobody waits for it. Where ``f`` only loads rows of a value, attention reads these, and there is no ``new``.
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
from onelaunch.graph.index import terms
from onelaunch.program.machine import Machine


def forward(graph: Graph, machine: Machine) -> int:
    """Forward into every attention where the machine gains by it, in place; returns how many."""
    if not machine.forwards:
        return 0
    count = 0
    for node in list(graph.nodes):
        a = node.nest.attention
        if a is None:
            continue
        key, value = (_store_of(graph, e, a.key) for e in (a.k, a.v))
        if key is None or value is None or key.at is not value.at:
            continue
        k, v = _forwarded(graph, a.k, a.key, key), _forwarded(graph, a.v, a.key, value)
        node.nest = dataclasses.replace(node.nest, attention=dataclasses.replace(a, k=k, v=v))
        count += 1
    return count


@dataclasses.dataclass(frozen=True, slots=True)
class _Store:
    """What an attention loads from a cache was stored there at position ``at``, as ``node``'s expression where its
    variables are mapped.
    """

    node: Node
    base: Value
    at: Expr
    mapping: dict[Expr, Expr]


def _forwarded(graph: Graph, e: Expr, key: Expr, store: _Store) -> Expr:
    """``e`` with what was stored in the place of a load of it."""
    if e.op is Op.CAST:
        return build.cast(_forwarded(graph, e.args[0], key, store), e.dtype)
    _separate(graph, store.node)
    new = substitute(store.node.nest.body, store.mapping)
    old = build.load(store.base.name, e.args, store.base.dtype)
    return build.where(build.eq(key, store.at), build.cast(new, store.base.dtype), old)


def _separate(graph: Graph, node: Node) -> None:
    """Gives what ``node`` stores a value of its own, unless it is one, row by row."""
    nest = node.nest
    if (load := _plain(nest.body)).op is Op.LOAD and nest.vars and load.args:
        moves = [terms(i)[0].get(nest.vars[-1], 0) for i in load.args]
        if moves[-1] == 1 and not any(nest.vars[-1] in i.free for i in load.args[:-1]):
            return
    name = f"{node.out.name}.new"
    new = dataclasses.replace(nest, target=name, dtype=nest.body.dtype, index=nest.vars)
    shape = tuple(v.args[0] for v in nest.vars)
    graph.nodes.insert(graph.nodes.index(node), Node(Value(name, new.dtype, shape), new, origin=node.origin))
    node.nest = dataclasses.replace(nest, body=build.load(name, nest.vars, new.dtype))


def _plain(e: Expr) -> Expr:
    """``e`` without casts of floats."""
    while e.op is Op.CAST and e.args[0].dtype.is_float:
        e = e.args[0]
    return e


def _store_of(graph: Graph, e: Expr, key: Expr) -> _Store | None:
    """The store into the cache that ``e`` loads, if it is one at one position of the dimension that ``key`` indexes."""
    e = _plain(e)
    node = next((n for n in graph.nodes if n.out.name == e.attr), None) if e.op is Op.LOAD else None
    if node is None or node.base is None:
        return None
    return _stored(node, graph.values()[str(node.base)], e.args, key)


def _stored(node: Node, base: Value, place: tuple[Expr, ...], key: Expr) -> _Store | None:
    """``node``, if it fills all of its base at one position of the dimension that ``key`` indexes."""
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
    return _Store(node, base, substitute(at, mapping), mapping)
