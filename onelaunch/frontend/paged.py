"""Lowering of ``onelaunch::paged_store`` and ``onelaunch::paged_attend``: caches in pages."""

from __future__ import annotations

from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import same_type
from onelaunch.frontend.aten import scalar
from onelaunch.frontend.lowering import Lowering
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.graph import Value
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Nest


@rule("paged_store")
def _store(low: Lowering, cache: Any, slots: Any, rows: Any) -> Value:
    """Rows at the slots; a negative slot is a negative index, which stores nothing."""
    base, picked, new = low.value(cache), low.value(slots), low.value(rows)
    same_type(base, new)
    variables = low.variables(new.shape)
    slot = build.cast(low.at(picked, variables[:1]), DType.I64)
    at = (build.floordiv(slot, base.shape[1]), build.mod(slot, base.shape[1]), *variables[1:])
    return low.emit_nest(base.shape, base.dtype, variables, at, low.at(new, variables), base=base.name)


@rule("paged_attend")
def _attend(
    low: Lowering, q: Any, keys: Any, values: Any, table: Any, lengths: Any, scale: Any, window: Any, softcap: Any
) -> Value:
    """The range of positions is stated, so that nothing has to be recognised in a mask."""
    query, k, v, blocks, length = (low.value(t) for t in (q, keys, values, table, lengths))
    shape = low.shape(meta(low))
    index = low.variables(shape)
    if index[-1].is_const:
        raise UnsupportedError("attention with value heads of one element")
    b, h = index[0], index[1]
    page = k.shape[1]
    key = build.var("key", build.mul(blocks.shape[1], page))
    head = build.var("head", query.shape[-1])
    groups = build.floordiv(query.shape[1], k.shape[2])
    block = build.cast(low.at(blocks, (b, build.floordiv(key, page))), DType.I64)
    place = (block, build.mod(key, page), build.floordiv(h, groups))
    stop = build.cast(low.at(length, (b,)), DType.I64)
    attention = Attention(
        key=key,
        head=head,
        q=low.at(query, (b, h, head)),
        k=low.at(k, (*place, head)),
        v=low.at(v, (*place, index[-1])),
        score=_score(low, scale, float(low.number(softcap).value)),
        start=build.pointwise(Op.MAX, build.sub(stop, const(w)), const(0)) if (w := low.static(window)) else None,
        stop=stop,
        scan=None,
        masked="zero",
    )
    wrap = lambda nest: Nest(nest.vars, nest.target, nest.dtype, nest.index, nest.body, (), attention)  # noqa: E731
    return low.emit_nest(shape, Lowering.dtype(meta(low)), index, index, build.acc(0), wrap=wrap)


def _score(low: Lowering, scale: Any, softcap: float) -> Expr:
    score = build.mul(build.acc(0), scalar(low.number(scale), DType.F32))
    if not softcap:
        return score
    cap = const(softcap, DType.F32)
    return build.mul(build.pointwise(Op.TANH, build.pointwise(Op.DIV, score, cap)), cap)
