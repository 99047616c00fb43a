"""Kernels: nests that differ only in the names of their buffers become one instance of code.

Variables and operands get canonical names in the order of their first use, so equal work of different layers prints,
compares and compiles as one kernel.
"""

from __future__ import annotations

import dataclasses

from onelaunch.graph.build import var
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import rewrite
from onelaunch.graph.expr import substitute
from onelaunch.graph.expr import walk
from onelaunch.graph.nest import Contraction
from onelaunch.graph.nest import Nest
from onelaunch.program.program import Buffer
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand


def kernel_of(nest: Nest, buffers: dict[str, Buffer]) -> tuple[Kernel, tuple[str, ...]]:
    """The kernel that runs ``nest``, and the buffer name of each of its operands (the target is operand 0)."""
    nest = _rename_variables(nest)
    names = list(dict.fromkeys((nest.target, *(e.attr for e in nest.loads()))))
    operand = {name: f"p{n}" for n, name in enumerate(names)}
    memo: dict[Expr, Expr] = {}

    def move(e: Expr) -> Expr | None:
        if e.op is Op.LOAD:
            return Expr.make(Op.LOAD, e.args, operand[e.attr], buffers[e.attr].dtype)
        return None

    moved = nest.map(lambda root: rewrite(root, move, memo))
    moved = dataclasses.replace(moved, target=operand[nest.target], dtype=buffers[nest.target].dtype)
    operands = tuple(Operand(operand[n], buffers[n].dtype, buffers[n].shape, buffers[n].strides) for n in names)
    return Kernel(operands, moved), tuple(names)


def _rename_variables(nest: Nest) -> Nest:
    mapping: dict[Expr, Expr] = {v: var(f"i{n}", v.args[0]) for n, v in enumerate(nest.vars)}
    for n, c in enumerate(nest.contractions):
        mapping.setdefault(c.var, var(f"k{n}", c.var.args[0]))
    if nest.attention is not None:
        mapping[nest.attention.key] = var("key", nest.attention.key.args[0])
        mapping[nest.attention.head] = var("head", nest.attention.head.args[0])
    named = len(mapping)

    def name(v: Expr) -> None:
        if v not in mapping:
            for outer in sorted(v.args[0].free, key=str):  # extents may depend on outer variables (a running sum)
                name(outer)
            mapping[v] = var(f"r{len(mapping) - named}", substitute(v.args[0], mapping))

    for root in nest.exprs():
        for e in walk(root):
            if e.op is Op.REDUCE:
                name(e.args[0])
    memo = dict(mapping)
    moved = nest.map(lambda root: rewrite(root, lambda _: None, memo))
    attention = moved.attention
    if attention is not None:
        attention = dataclasses.replace(attention, key=mapping[attention.key], head=mapping[attention.head])
    return dataclasses.replace(
        moved,
        vars=tuple(mapping[v] for v in nest.vars),
        contractions=tuple(Contraction(mapping[c.var], c.x, c.w) for c in moved.contractions),
        attention=attention,
    )
