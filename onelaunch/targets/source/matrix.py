"""Matrices of contractions: which layout a weight has, read off the flattened address of its elements."""

from __future__ import annotations

import dataclasses

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.index import terms
from onelaunch.graph.nest import Contraction
from onelaunch.targets.source.memory import Memory

STREAMED = (DType.F32, DType.BF16, DType.F16)


@dataclasses.dataclass(frozen=True, slots=True)
class Matrix:
    """How the elements of a weight matrix lie: ``base + column * columns + row of the contraction * rows``."""

    name: str
    dtype: DType
    base: Expr
    column: int  # distance of neighbouring output columns, in elements
    inner: int  # distance of neighbouring elements of the contraction

    @property
    def by_columns(self) -> bool:
        """True for [in, out]."""
        return self.inner != 1


def recognise(memory: Memory, column: Expr, c: Contraction) -> Matrix | None:
    """The matrix of a contraction, where headers can stream it; ``column``: the variable of the output columns."""
    w = stored(c.w)
    if w.op is not Op.LOAD or w.dtype not in STREAMED or c.x.dtype.compute is not DType.F32:
        return None
    lowered = memory.lower(w)
    parts, constant = terms(lowered.args[0])
    by_column, by_inner = parts.pop(column, 0), parts.pop(c.var, 0)
    if any(t.free for t in parts) or 1 not in (by_column, by_inner) or min(by_column, by_inner) < 0:
        return None
    base = build.const(constant)
    for term, factor in parts.items():
        base = build.add(base, build.mul(term, build.const(factor)))
    return Matrix(w.attr, w.dtype, base, by_column, by_inner)


def stored(e: Expr) -> Expr:
    """``e`` without casts to a wider float: the headers widen what they load."""
    while e.op is Op.CAST and e.dtype is DType.F32 and e.args[0].dtype in STREAMED:
        e = e.args[0]
    return e
