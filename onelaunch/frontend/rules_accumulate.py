"""Rules of stores that accumulate: ``out[p] = base[p] + sum(i: index[i] == p ? new[i] : 0)``.

Every element looks for what is added to it, in one fixed order, so results are the same at every run. What has an index
outside of the tensor is never found, and adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend.aten import convert
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import operand
from onelaunch.frontend.aten import rule
from onelaunch.frontend.lowering import Index
from onelaunch.frontend.lowering import Lowering
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.build import pointwise
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Value
from onelaunch.program.program import maximum

MOST = 1 << 20  # comparisons: what is looked for more often is faster stored one by one

Found = tuple[Sequence[Expr], Expr]
_KINDS = ("sum", "prod", "amax", "amin")


@rule("scatter_add")
def _scatter_add(low: Lowering, x: Any, dim: Any, ids: Any, new: Any) -> Value:
    return _scatter_reduce(low, x, dim, ids, new, "sum")


@rule("scatter_reduce")
def _scatter_reduce(
    low: Lowering, x: Any, dim: Any, ids: Any, new: Any, reduce: str, *, include_self: bool = True
) -> Value:
    if reduce not in _KINDS or not include_self:
        raise UnsupportedError(f"scatter_reduce with reduce={reduce!r}, include_self={include_self}")
    base, rows = low.value(x), low.value(ids)
    if not base.shape or not rows.shape:
        raise UnsupportedError("scatter_reduce of a tensor without dimensions")
    d = low.static(dim) % len(base.shape)
    dtype = Lowering.dtype(meta(low))

    def found(index: Index, v: Sequence[Expr]) -> Found:
        at = tuple(v[0] if e == d else i for e, i in enumerate(index))
        inside = const(True, DType.BOOL)
        for e, i in enumerate(index):
            if e != d:
                inside = build.logical_and(inside, build.lt(i, rows.shape[e]))
        here = build.eq(build.cast(low.at(rows, at), DType.I64), index[d])
        return [inside, here], operand(low, new, at, dtype)

    return accumulate(low, base, [rows.shape[d]], found, reduce)


def accumulate(
    low: Lowering,
    base: Value,
    extents: Sequence[Expr],
    found: Callable[[Index, Sequence[Expr]], Found],
    kind: str = "sum",
) -> Value:
    """``base``, each element combined with all that is ``found(index, steps)`` for it: (conditions, value).

    ``extents``: of the steps.
    """
    work = math.prod(maximum(e) for e in (*base.shape, *extents))
    if work > MOST:
        raise UnsupportedError(f"a store that accumulates, with {work} places to compare; accepted: {MOST} or fewer")
    dtype = base.dtype

    def body(index: Index) -> Expr:
        steps = [low.reduction(e) if maximum(e) > 1 or not e.is_const else const(0) for e in extents]
        conditions, total = found(index, steps)
        old = low.at(base, index)
        neutral = const(0 if kind == "sum" else 1, dtype) if kind in ("sum", "prod") else old
        for condition in reversed(conditions):  # one guards the next
            total = build.where(condition, total, neutral)
        for v in reversed(steps):
            total = total if v.is_const else build.reduce(kind.removeprefix("a"), v, total)
        if kind in ("sum", "prod"):
            return convert((build.add if kind == "sum" else build.mul)(old, total), dtype)
        return pointwise(Op.MAX if kind == "amax" else Op.MIN, old, total)

    return low.emit(meta(low), body)
