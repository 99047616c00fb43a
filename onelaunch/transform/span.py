"""Attention spans: which positions of the cache can count, read off the mask inside the score.

before  score = where(key <= %pos[0], s, -inf), start and stop unknown
after   stop = %pos[0] + 1: the loop over the cache ends at the current length, not at the cache's capacity

Comparisons of the key with something else give ``start`` and ``stop``; any other condition on the key (a mask that is
data) is ``scan``ned for its last true position. Masks that add a huge negative number instead of choosing -inf leave
every position in when none is allowed, so for them everything is scanned and ``masked`` is "all".
"""

from __future__ import annotations

import dataclasses
import math

from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Graph
from onelaunch.graph.index import from_terms
from onelaunch.graph.index import terms
from onelaunch.graph.nest import Attention

HUGE = -3e4  # adding this or less to a score makes its softmax term exactly 0 in fp32


def find_spans(graph: Graph) -> int:
    """Set start, stop and scan of every Attend nest whose mask tells them, in place; returns how many."""
    count = 0
    for node in graph.nodes:
        a = node.nest.attention
        if a is not None:
            found = find_span(a)
            count += found is not a
            node.nest = dataclasses.replace(node.nest, attention=found)
    return count


def find_span(a: Attention) -> Attention:
    """The attention with what its score's mask says about positions."""
    chosen = _choice(a.score)
    if chosen is not None:
        start, stop, scan = _ranges(chosen, a.key)
        return dataclasses.replace(a, start=start, stop=stop, scan=scan)
    added = _addend(a.score)
    if added is not None and a.key in added.free:
        return dataclasses.replace(a, scan=added, masked="all")
    return a


def _choice(score: Expr) -> Expr | None:
    """The condition where a score is -inf unless it holds."""
    if score.op is Op.WHERE and score.args[2].is_const and score.args[2].value == -math.inf:
        inner = _choice(score.args[1])
        return score.args[0] if inner is None else build.logical_and(score.args[0], inner)
    return None


def _addend(score: Expr) -> Expr | None:
    """The condition where a score gets a huge negative number added unless it holds."""
    while score.op is Op.CAST:
        score = score.args[0]
    if score.op is not Op.ADD:
        return None
    for part in score.args:
        while part.op is Op.CAST:
            part = part.args[0]
        if part.op is Op.WHERE and all(s.is_const for s in part.args[1:]):
            yes, no = (s.value for s in part.args[1:])
            if no <= HUGE and yes > HUGE / 2:
                return part.args[0]
            if yes <= HUGE and no > HUGE / 2:
                return build.pointwise(Op.NOT, part.args[0])
    return None


def _conjuncts(e: Expr) -> list[Expr]:
    return [c for a in e.args for c in _conjuncts(a)] if e.op is Op.AND else [e]


def _ranges(condition: Expr, key: Expr) -> tuple[Expr | None, Expr | None, Expr | None]:
    start: Expr | None = None
    stop: Expr | None = None
    scan: Expr | None = None
    for c in _conjuncts(condition):
        low, high = _bound(c, key)
        if low is None and high is None:
            if key in c.free:
                scan = c if scan is None else build.logical_and(scan, c)
        elif high is not None:
            stop = high if stop is None else build.pointwise(Op.MIN, stop, high)
        elif low is not None:
            start = low if start is None else build.pointwise(Op.MAX, start, low)
    return start, stop, scan


def _bound(c: Expr, key: Expr) -> tuple[Expr | None, Expr | None]:
    """(start, None) or (None, stop) where ``c`` compares the key with something that does not depend on it."""
    if c.op not in (Op.LE, Op.LT) or not all(a.dtype.is_int for a in c.args):
        return None, None
    difference, constant = terms(build.sub(*(build.cast(a, key.dtype) for a in c.args[::-1])))  # 0 <= or < b - a
    strict = 1 if c.op is Op.LT else 0
    factor = difference.pop(key, 0)
    rest = from_terms(difference, constant)
    if abs(factor) != 1 or key in rest.free or any(e.op is Op.REDUCE for e in walk(rest)):
        return None, None
    if factor == -1:  # key <= rest - strict
        return None, build.add(rest, const(1 - strict))
    return build.add(build.mul(rest, const(-1)), const(strict)), None
