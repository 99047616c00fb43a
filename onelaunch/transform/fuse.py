"""Fusion: which values are computed where they are used, and which are stored.

Three steps, each inlining (``inline.py``) and nothing else:

``chain``    a value with one user, loaded once there, goes into it if the cost model sees no loss (a pointwise chain,
             the statistics of a norm).
``epilogue`` a contraction whose value has one user that reads it column by column becomes part of that user (bias,
             residual, activation; gate and up become one op that owns both columns).
``share``    every other value: computed again in each user, or stored once; the cheaper by the cost model.
"""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import substitute
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.index import terms
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Kind
from onelaunch.graph.nest import Nest
from onelaunch.program.machine import Machine
from onelaunch.program.program import maximum
from onelaunch.transform import cost
from onelaunch.transform.inline import inline
from onelaunch.transform.inline import inside_reduction
from onelaunch.transform.inline import is_plain
from onelaunch.transform.inline import loads_of


def kept(graph: Graph) -> set[str]:
    """Values that must be stored whatever happens: outputs, updates, bases."""
    names = set(graph.outputs) | {value for _, value in graph.updates}
    return names | {n.base for n in graph.nodes if n.base is not None}


def chain(graph: Graph, machine: Machine) -> int:
    """Inline values with one user and one load where that costs no more, in place; returns how many."""
    count = 0
    stored = kept(graph)
    users = graph.users()
    table = {n.out.name: n for n in graph.nodes}
    for node in list(graph.nodes):
        name = node.out.name
        targets = users.get(name, [])
        if name in stored or not is_plain(node) or len(targets) != 1:
            continue
        user = targets[0]
        if len(loads_of(user.nest, name)) != 1 or not may_inline(name, user):
            continue
        if user.nest.contractions and _ends_products(node, table, users, stored):
            continue
        merged = inline(user.nest, {name: node})
        if cost.time(merged, machine) > cost.time(user.nest, machine) + cost.time(node.nest, machine):
            continue
        user.nest = merged
        graph.nodes.remove(node)
        count += 1
        for source in node.reads:
            users[source] = [user if u is node else u for u in users[source] if u is not user or u is node]
    return count


def _ends_products(node: Node, table: dict[str, Node], users: dict[str, list[Node]], stored: set[str]) -> bool:
    """Whether ``epilogue`` can make the node the end of contractions: there it is computed once, not once a worker."""
    sources = (table[name] for name in node.reads if name in table and name not in stored and users[name] == [node])
    return any(s.nest.kind is Kind.LINEAR and s.base is None and absorb(s, node) is not None for s in sources)


def may_inline(name: str, user: Node) -> bool:
    """Matrices, keys and values are read in place: what they load has to be stored."""
    nest = user.nest
    if any(c.w.attr == name for c in nest.contractions):
        return False
    a = nest.attention
    return a is None or not any(e.attr == name for part in (a.k, a.v) for e in loads(part))


def epilogue(graph: Graph) -> int:
    """Let users of contractions own them, in place; returns how many contractions moved."""
    count = 0
    stored = kept(graph)
    users = graph.users()
    for node in list(graph.nodes):
        name = node.out.name
        targets = users.get(name, [])
        if node.nest.kind is not Kind.LINEAR or node.base or name in stored or len(targets) != 1:
            continue
        user = targets[0]
        moved = absorb(node, user)
        if moved is None:
            continue
        user.nest = moved
        graph.nodes.remove(node)
        count += 1
        for source in node.reads:
            users[source] = [user if u is node else u for u in users[source] if u is not user or u is node]
    return count


def absorb(node: Node, user: Node) -> Nest | None:
    """The user's nest with ``node``'s contractions in it, or None where the user needs more than its own columns."""
    nest, source = user.nest, node.nest
    if user.base is not None or nest.kind not in (Kind.ROWS, Kind.LINEAR) or not nest.vars:
        return None
    loads = loads_of(nest, node.out.name)
    if any(inside_reduction(nest, e) for e in loads) or any(_in_contractions(nest, e) for e in loads):
        return None
    column = _column_of(source, loads[0])
    if column is None or (nest.contractions and column is not nest.vars[-1]):
        return None
    if math.prod(maximum(v.args[0]) for v in nest.vars) * len(loads) > math.prod(
        maximum(v.args[0]) for v in source.vars
    ):
        return None
    contractions = list(nest.contractions)
    replaced: dict[Expr, Expr] = {}
    for load in loads:
        mapping = {v: i for v, i in zip(source.index, load.args, strict=True) if v.op is Op.VAR}
        at = mapping[source.vars[-1]]
        others = [i for v, i in mapping.items() if v is not source.vars[-1]]
        if _offset(at, column) is None or any(column in i.free for i in others):
            return None
        accs: dict[Expr, Expr] = {}
        for j, c in enumerate(source.contractions):
            moved = Contraction(c.var, substitute(c.x, mapping), substitute(c.w, mapping))
            moved = _same_prologue(moved, contractions)
            if moved not in contractions:
                contractions.append(moved)
            accs[build.acc(j)] = build.acc(contractions.index(moved) + _ACC_SHIFT)
        replaced[load] = substitute(substitute(source.body, mapping), accs)
    body = substitute(nest.body, replaced)
    shift = {build.acc(j + _ACC_SHIFT): build.acc(j) for j in range(len(contractions))}
    order = (*(v for v in nest.vars if v is not column), column)
    return dataclasses.replace(nest, vars=order, body=substitute(body, shift), contractions=tuple(contractions))


_ACC_SHIFT = 1 << 20  # keeps the numbers of moved sums apart from those that are there


def _in_contractions(nest: Nest, load: Expr) -> bool:
    from onelaunch.graph.expr import walk

    return any(load in set(walk(e)) for c in nest.contractions for e in (c.x, c.w))


def _column_of(source: Nest, load: Expr) -> Expr | None:
    """The user's variable that runs along the columns of ``source``."""
    mapping = {v: i for v, i in zip(source.index, load.args, strict=True) if v.op is Op.VAR}
    at = mapping.get(source.vars[-1])
    free = list(at.free) if at is not None else []
    return free[0] if len(free) == 1 else None


def _offset(at: Expr, column: Expr) -> int | None:
    """c where ``at`` is column + c."""
    parts, constant = terms(at)
    return constant if parts == {column: 1} else None


def _same_prologue(c: Contraction, others: list[Contraction]) -> Contraction:
    """``c`` over the variable of an equal prologue that is there already, so that the two are seen to be one."""
    for other in others:
        if other.var.args[0] is c.var.args[0] and substitute(c.x, {c.var: other.var}) is other.x:
            return Contraction(other.var, other.x, substitute(c.w, {c.var: other.var}))
    return c


def share(graph: Graph, machine: Machine) -> int:
    """Inline every remaining plain value whose recomputation is cheaper than storing it, in place; returns how many."""
    count = 0
    stored = kept(graph)
    users = graph.users()
    for node in reversed(list(graph.nodes)):
        name = node.out.name
        targets = users.get(name, [])
        if name in stored or not is_plain(node) or not all(may_inline(name, u) for u in targets):
            continue
        merged = [inline(u.nest, {name: node}) for u in targets]
        again = sum(cost.time(m, machine) - cost.time(u.nest, machine) for m, u in zip(merged, targets, strict=True))
        if again > cost.time(node.nest, machine) + machine.dependency:
            continue
        for user, nest in zip(targets, merged, strict=True):
            user.nest = nest
        graph.nodes.remove(node)
        count += 1
        for source in node.reads:
            found = dict.fromkeys(id(u) for u in users[source])
            kept_users = [u for u in users[source] if u is not node]
            kept_users.extend(u for u in targets if id(u) not in found)
            users[source] = kept_users
    return count
