"""Split attention: the positions of one row are shared out, where its rows alone do not keep the workers busy.

before  o[h, e] = attend(q, k, v)                                       one task a group of heads
after   s[h, p, :] = attend(q, k, v, part p)                            one task a group of heads and part
        o[h, e] = sum(p: f[p] * s[h, p, e]) / sum(p: f[p] * weight[p])   f[p] = exp(peak[p] - max(peak))

A part is a share of the positions that count in this launch, not of the cache's capacity: parts are cut when the length
is known. The sum over parts has a fixed order, so the result depends on their number and on nothing else. (Merging
softmax statistics: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; splitting a decode step's
keys this way is known as flash-decoding.)
"""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import substitute
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.nest import PART_BLOCK
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Nest
from onelaunch.program.machine import Machine
from onelaunch.program.program import maximum
from onelaunch.transform import cost
from onelaunch.transform.tile import tiles


def split(graph: Graph, machine: Machine) -> int:
    """Split the positions of attentions where that is faster by the cost model, in place; returns how many."""
    count = 0
    nodes: list[Node] = []
    for node in graph.nodes:
        parts = best_parts(node.nest, machine)
        if parts > 1:
            node, unfinished = split_node(node, parts)
            nodes.append(unfinished)
            count += 1
        nodes.append(node)
    graph.nodes = nodes
    return count


def best_parts(nest: Nest, machine: Machine) -> int:
    """The number of parts with the least estimated time for a full cache."""
    a = nest.attention
    if a is None or a.part is not None or DType.F64 in (a.q.dtype, a.k.dtype, a.v.dtype):
        return 1
    rows = len(tiles(nest, machine))
    most = min(machine.attend_parts, machine.workers // rows, math.ceil(maximum(a.key.args[0]) / PART_BLOCK))
    work = max(cost.work(nest, machine) / rows, maximum(a.key.args[0]) * machine.position)
    times = {1: work}
    for parts in range(2, most + 1):
        merged = cost.time(_merge(nest, parts, "parts"), machine)
        times[parts] = work / parts + machine.dependency + merged
    return min(times, key=lambda parts: (times[parts], parts))


def split_node(node: Node, parts: int) -> tuple[Node, Node]:
    """The node that merges, under the name of the old one, and the one whose parts it merges."""
    nest, a = node.nest, node.nest.attention
    assert a is not None, "only attention is split"
    name = f"{node.out.name}.parts"
    part, size = build.var("part", parts), nest.vars[-1].args[0]
    element = build.var("element", build.add(size, build.const(2)))
    inside = build.lt(element, size)
    value = build.where(inside, substitute(build.cast(a.v, DType.F32), {nest.vars[-1]: element}), _number(0.0))
    unfinished = (*nest.vars[:-1], part, element)
    shape = tuple(v.args[0] for v in unfinished)
    split = Nest(unfinished, name, DType.F32, unfinished, build.acc(0), (), dataclasses.replace(a, v=value, part=part))
    merged = dataclasses.replace(node, nest=_merge(nest, parts, name))
    return merged, Node(Value(name, DType.F32, shape), split, origin=node.origin)


def _merge(nest: Nest, parts: int, name: str) -> Nest:
    """The nest with its attention read from unfinished parts."""
    a, size = nest.attention, nest.vars[-1].args[0]
    assert isinstance(a, Attention)

    def read(variable: str, at: Expr) -> tuple[Expr, Expr]:
        p = build.var(variable, parts)
        return p, build.load(name, (*nest.vars[:-1], p, at), DType.F32)

    last, low = build.add(size, build.const(1)), _number(-math.inf)
    top = build.reduce("max", *read("part0", size))
    base = build.where(build.eq(top, low), _number(0.0), top)  # -inf - -inf would be NaN

    def total(number: int, at: Expr) -> Expr:
        p, value = read(f"part{number}", at)
        _, peak = read(f"part{number}", size)
        return build.reduce("sum", p, build.mul(build.pointwise(Op.EXP, build.sub(peak, base)), value))

    weight = total(1, last)
    mean = build.pointwise(Op.DIV, total(2, nest.vars[-1]), weight)
    empty = _number(math.nan if a.masked == "nan" else 0.0)
    result = build.where(build.eq(weight, _number(0.0)), empty, mean)
    return dataclasses.replace(nest, body=substitute(nest.body, {build.acc(0): result}), attention=None)


def _number(value: float) -> Expr:
    return build.const(value, DType.F32)
