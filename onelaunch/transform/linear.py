"""Contractions: a sum of products with a matrix becomes a ``Linear`` nest.

before  out[t, n] = f(sum(k < K: x(t, k) * %w[n, k]))
after   out[t, n] = f(@0)  with contraction k: x(t, k), %w[n, k]

The matrix is recognised by its form: a load whose indices depend on one variable of the nest (the column, which becomes
the last variable) and on k, while the other factor does not depend on the column. Declines for small products, where
the generic loops are as good, and for integers and f64, because finished sums are fp32.
"""

from __future__ import annotations

import dataclasses

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Graph
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.program.program import maximum
from onelaunch.transform.inline import is_plain

SMALLEST = 256  # elements of a matrix below which a product stays in generic loops


def linearise(graph: Graph) -> int:
    """Turn products with matrices into Linear nests, in place; returns how many."""
    count = 0
    weights = {a.value.name for a in graph.arguments if a.constant}
    for node in graph.nodes:
        if is_plain(node):
            nest = linear(node.nest, weights)
            count += nest is not node.nest
            node.nest = nest
    return count


def linear(nest: Nest, weights: set[str]) -> Nest:
    """``nest`` with its contraction taken out of the body, or ``nest`` itself where there is none."""
    for e in walk(nest.body):
        if e.op is not Op.REDUCE or e.attr != "sum" or e.args[1].op is not Op.MUL or e.dtype.compute is not DType.F32:
            continue
        found = _split(nest, e, weights)
        if found is not None:
            column, contraction = found
            order = (*(v for v in nest.vars if v is not column), column)
            body = substitute(nest.body, {e: build.acc(0)})
            return dataclasses.replace(nest, vars=order, body=body, contractions=(contraction,))
    return nest


def _split(nest: Nest, total: Expr, weights: set[str]) -> tuple[Expr, Contraction] | None:
    k, product = total.args
    if any(e.op is Op.REDUCE for e in walk(product)) or not k.args[0].is_const:
        return None
    factors = [_uncast(f) for f in product.args]
    candidates = [(factors[1], product.args[0]), (factors[0], product.args[1])]
    candidates.sort(key=lambda c: not (c[0].op is Op.LOAD and c[0].attr in weights))
    for w, x in candidates:
        if w.op is not Op.LOAD or any(loads(i) for i in w.args):
            continue
        columns = w.free - {k}
        if len(columns) != 1 or k not in w.free or columns & x.free or not columns <= set(nest.vars):
            continue
        (column,) = columns
        if maximum(column.args[0]) * maximum(k.args[0]) < SMALLEST:
            continue
        return column, Contraction(k, x, w)
    return None


def _uncast(e: Expr) -> Expr:
    """A load behind casts that keep its value (to a wider float)."""
    while e.op is Op.CAST and e.dtype.is_float and e.args[0].dtype.is_float:
        if e.dtype.itemsize < e.args[0].dtype.itemsize:
            break
        e = e.args[0]
    return e


def plain_body(nest: Nest) -> Expr:
    """The body with contractions written as sums again."""
    sums = {build.acc(j): build.reduce("sum", c.var, build.mul(c.x, c.w)) for j, c in enumerate(nest.contractions)}
    return substitute(nest.body, sums)
