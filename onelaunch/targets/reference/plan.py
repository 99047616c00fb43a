"""What the reference target knows of a kernel before it runs: the axis of every index variable, and static facts.

Values of a nest are tensors aligned at their last axis. Every variable of the nest, reductions and contractions
included, has an axis of its own, so values that do not depend on a variable have size 1 there (or no axis at all) and
torch's broadcasting does the rest.
"""

from __future__ import annotations

from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.index import terms
from onelaunch.graph.nest import Nest

_GUARDED = frozenset({Op.LOAD, Op.FLOORDIV, Op.MOD, Op.FMOD})


class Plan:
    """Axes and memoised facts of one nest, shared by all tasks that run it."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.axis: dict[Expr, int] = {v: i - len(nest.vars) for i, v in enumerate(nest.vars)}
        inner = [c.var for c in nest.contractions]
        if nest.attention is not None:
            inner += [nest.attention.key, nest.attention.head]
        for root in nest.exprs():
            inner += [e for e in walk(root) if e.op is Op.VAR]
        for v in inner:
            self.axis.setdefault(v, -len(self.axis) - 1)
        self._guarded: dict[Expr, bool] = {}
        self._affine: dict[Expr, tuple[list[tuple[Expr, int]], list[tuple[Expr, int]], int] | None] = {}

    def guarded(self, e: Expr) -> bool:
        """Whether evaluating ``e`` where it is not chosen could do harm (it loads, or divides by a variable)."""
        found = self._guarded.get(e)
        if found is None:
            found = e.op in _GUARDED or any(self.guarded(a) for a in e.args)
            self._guarded[e] = found
        return found

    def affine(self, e: Expr) -> tuple[list[tuple[Expr, int]], list[tuple[Expr, int]], int] | None:
        """``e`` as (variables, symbols, constant) with their coefficients, or None where it is anything else."""
        if e not in self._affine:
            parts, constant = terms(e)
            if all(t.op in (Op.VAR, Op.SYM) for t in parts):
                variables = [(t, k) for t, k in parts.items() if t.op is Op.VAR]
                symbols = [(t, k) for t, k in parts.items() if t.op is Op.SYM]
                self._affine[e] = variables, symbols, constant
            else:
                self._affine[e] = None
        return self._affine[e]
