"""Attention written out: matmul, softmax, matmul become one Attend nest.

before  s[q, j] = f(sum(d: q[q, d] * k[j, d]));  p = softmax(s);  o[q, e] = sum(j: p[q, j] * v[j, e])
after   o[q, e] = attend(q, k, v, score = f(@0))

Recognised by its form alone, so scales, soft caps, biases and masks of any kind stay in ``f``.
"""

from __future__ import annotations

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Nest
from onelaunch.transform.inline import element
from onelaunch.transform.inline import is_plain
from onelaunch.transform.linear import plain_body


def recognise(graph: Graph) -> int:
    """Turn written-out attention into Attend nests, in place; returns how many."""
    count = 0
    table = {n.out.name: n for n in graph.nodes}
    users = graph.users()
    stored = set(graph.outputs) | {value for _, value in graph.updates}
    for node in graph.nodes:
        if node.base is not None or node.nest.attention is not None:
            continue
        nest = _attend(node, table, users, stored)
        if nest is not None:
            node.nest = nest
            count += 1
    graph.prune()
    return count


def _attend(node: Node, table: dict[str, Node], users: dict[str, list[Node]], stored: set[str]) -> Nest | None:
    body = plain_body(node.nest)
    reductions = [e for e in walk(body) if e.op is Op.REDUCE]
    inside = {e for r in reductions for e in walk(r.args[1]) if e.op is Op.REDUCE}  # of a softmax that is computed here
    sums = [r for r in reductions if r not in inside]
    if len(sums) != 1 or sums[0].attr != "sum" or sums[0].args[1].op is not Op.MUL:
        return None
    if sums[0].dtype.compute is not DType.F32:  # an attention's result is fp32
        return None
    key, product = sums[0].args
    for p, v in (product.args, product.args[::-1]):
        probability = _strip(p)  # computed here, or by a node of its own
        if probability.op is Op.LOAD and probability.attr in table:
            softmax = table[probability.attr]
            if not is_plain(softmax) or users[probability.attr] != [node] or probability.attr in stored:
                continue
            probability = element(softmax, probability.args)
        scores = _softmax_input(probability, key)
        value = [x for x in node.nest.vars if x in v.free]
        if scores is None or not value:
            continue
        found = _scores(scores, key, table)
        last = node.nest.vars[-1]
        if found is None or last not in v.free or any(last in part.free for part in found):
            continue
        score, head, q, k = found
        attention = Attention(key, head, q, k, v, score, None, None, None, masked="nan")
        rest = substitute(body, {sums[0]: build.acc(0)})
        return Nest(node.nest.vars, node.nest.target, node.nest.dtype, node.nest.index, rest, (), attention)
    return None


def _strip(e: Expr) -> Expr:
    while e.op is Op.CAST and e.dtype.is_float:
        e = e.args[0]
    return e


def _softmax_input(e: Expr, key: Expr) -> Expr | None:
    """x where ``e`` is exp(x - max x) / sum exp(x - max x), max and sum over the range of ``key``."""
    e = _strip(e)
    if e.op is not Op.DIV:
        return None
    top, bottom = _strip(e.args[0]), _strip(e.args[1])
    if top.op is not Op.EXP or top.args[0].op is not Op.SUB or bottom.op is not Op.REDUCE or bottom.attr != "sum":
        return None
    x, peak = top.args[0].args
    peak = _strip(peak)
    if peak.op is not Op.REDUCE or peak.attr != "max" or key not in x.free or key in peak.free:
        return None
    if not (peak.args[0].args[0] is key.args[0] and bottom.args[0].args[0] is key.args[0]):
        return None
    if substitute(x, {key: peak.args[0]}) is not peak.args[1]:
        return None
    return x if substitute(top, {key: bottom.args[0]}) is _strip(bottom.args[1]) else None


def _scores(x: Expr, key: Expr, table: dict[str, Node]) -> tuple[Expr, Expr, Expr, Expr] | None:
    """(score with @0, head variable, q, k) of the scores ``x``, where they hold one scalar product over ``key``."""
    for _ in range(64):
        products = [e for e in walk(x) if e.op is Op.REDUCE and key in e.free and e.attr == "sum"]
        if products:
            break
        inner = [e for e in walk(x) if e.op is Op.LOAD and key in e.free and e.attr in table]
        inner = [e for e in inner if table[e.attr].base is None and table[e.attr].nest.attention is None]
        if not inner:
            return None
        x = substitute(x, {e: _element(table[e.attr], e.args) for e in inner})
    if len(products) != 1 or products[0].args[1].op is not Op.MUL:
        return None
    head, product = products[0].args
    for q, k in (product.args, product.args[::-1]):
        if key not in q.free and key in k.free and head in q.free and head in k.free:
            score = build.cast(substitute(x, {products[0]: build.acc(0)}), DType.F32)
            return score, head, q, k
    return None


def _element(node: Node, index: tuple[Expr, ...]) -> Expr:
    mapping = {v: i for v, i in zip(node.nest.index, index, strict=True) if v.op is Op.VAR}
    return substitute(plain_body(node.nest), mapping)
