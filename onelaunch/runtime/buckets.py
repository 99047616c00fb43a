"""Token buckets: which program serves a call, and the graph of one bucket.

A symbol that sizes tensors (or loops) is served by the program of the next bucket: 1, 2, 4, 8, 16, 24, 32, then powers
of two. Nothing is padded in memory: the program reads the true value and its loops stop there. A symbol that is only a
value (a position) has the one range that torch knows, so it never asks for another program. No range is wider than
torch's own: what it has guarded on (``s >= 3``) is what shows that a slice stays inside.

Where a machine gains by fixed sizes, a size that is its bucket's largest has a program for itself: vLLM pads batches to
such sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.errors import CallError
from onelaunch.graph.build import const
from onelaunch.graph.build import sym
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import rewrite
from onelaunch.graph.expr import walk
from onelaunch.graph.graph import Graph
from onelaunch.graph.graph import Node
from onelaunch.graph.graph import Value
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Symbol

SMALL = (1, 2, 4, 8, 16, 24, 32)
LARGEST = 2**40


def bucket(size: int) -> int:
    """The least bucket that holds ``size``. 0 is a bucket of its own, so that all others can rely on at least 1."""
    if size == 0:
        return 0
    for n in SMALL:
        if size <= n:
            return n
    return 1 << (size - 1).bit_length()


def ranges(
    symbols: Sequence[Symbol], sizing: frozenset[str], values: Sequence[int], exact: bool = False
) -> tuple[Symbol, ...]:
    """The symbols of the program that serves ``values``; ``exact``: sizes that are a small bucket's largest are served
    alone. Raises CallError where no program can.
    """
    found = []
    for s, value in zip(symbols, values, strict=True):
        least, most = s.minimum, s.maximum
        if s.name in sizing:
            least, most = max(least, -LARGEST), min(most, LARGEST)
        if not least <= value <= most:
            raise CallError(f"size {s.name} is {value}; accepted: {least} to {most}")
        if s.name in sizing and value < 0:  # an offset from the end, which is part of a size
            least, most = max(least, -bucket(-value)), min(most, -1)
        elif s.name in sizing:
            alone = exact and value in SMALL
            least, most = max(least, value if alone else min(value, 1)), min(most, bucket(value))
        found.append(Symbol(s.name, least, most))
    return tuple(found)


def sizing_symbols(graph: Graph) -> frozenset[str]:
    """Names of the symbols that are part of a tensor's or a loop's extent, or of a stride."""
    roots: set[Expr] = set()
    for a in graph.arguments:
        roots.update(a.value.shape, a.strides)
    for strides in graph.output_strides:
        roots.update(strides)
    for node in graph.nodes:
        roots.update(node.out.shape, (v.args[0] for v in _variables(node.nest)))
    return frozenset(e.attr[0] for root in roots for e in walk(root) if e.op is Op.SYM)


def _variables(nest: Nest) -> Iterator[Expr]:
    yield from nest.vars
    for c in nest.contractions:
        yield c.var
    if nest.attention is not None:
        yield nest.attention.key
        yield nest.attention.head
    yield from (e for root in nest.exprs() for e in walk(root) if e.op is Op.VAR)


def specialise(graph: Graph, symbols: Sequence[Symbol]) -> Graph:
    """A copy of ``graph`` with these ranges of its symbols, simplified by what they imply."""
    table = {s.name: const(s.minimum) if s.minimum == s.maximum else sym(s.name, s.minimum, s.maximum) for s in symbols}
    memo: dict[Expr, Expr] = {}

    def rule(e: Expr) -> Expr:
        return rewrite(e, lambda n: table[n.attr[0]] if n.op is Op.SYM else None, memo)

    def rules(exprs: Sequence[Expr]) -> tuple[Expr, ...]:
        return tuple(map(rule, exprs))

    def value(v: Value) -> Value:
        return Value(v.name, v.dtype, rules(v.shape))

    return Graph(
        name=graph.name,
        symbols=tuple(symbols),
        arguments=[dataclasses.replace(a, value=value(a.value), strides=rules(a.strides)) for a in graph.arguments],
        nodes=[Node(value(n.out), _nest(n.nest, rule), n.base, n.softmax, n.origin) for n in graph.nodes],
        updates=list(graph.updates),
        outputs=list(graph.outputs),
        output_strides=[rules(s) for s in graph.output_strides],
    )


def _nest(nest: Nest, rule: Callable[[Expr], Expr]) -> Nest:
    nest = nest.map(rule)
    attention: Attention | None = None
    if (a := nest.attention) is not None:
        attention = dataclasses.replace(a, key=rule(a.key), head=rule(a.head))
    contractions = tuple(Contraction(rule(c.var), c.x, c.w) for c in nest.contractions)
    variables = tuple(rule(v) for v in nest.vars)
    return dataclasses.replace(nest, vars=variables, contractions=contractions, attention=attention)
