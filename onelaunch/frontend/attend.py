"""Lowering of ``onelaunch::attend``: scaled dot product attention kept whole."""

from __future__ import annotations

import math
from typing import Any

from onelaunch.errors import UnsupportedError
from onelaunch.frontend import views
from onelaunch.frontend.aten import meta
from onelaunch.frontend.aten import rule
from onelaunch.frontend.aten import scalar
from onelaunch.frontend.lowering import Lowering
from onelaunch.graph import build
from onelaunch.graph.build import const
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.graph import Value
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Nest


@rule("attend")
def _attend(
    low: Lowering, q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False, scale: Any = None
) -> Value:
    """Queries [.., H, S, D], k [.., Hkv, L, D], v [.., Hkv, L, E], mask broadcastable to [.., H, S, L]."""
    query, keys, values = low.value(q), low.value(k), low.value(v)
    rank = len(query.shape)
    if rank < 3:
        raise UnsupportedError(f"attention over {rank} dimensions, 3 or more are needed")
    groups = build.floordiv(query.shape[-3], keys.shape[-3])
    shape = low.shape(meta(low))
    index = low.variables(shape)
    key = build.var("key", keys.shape[-2])
    head = build.var("head", query.shape[-1])
    lead, h, s = index[:-3], index[-3], index[-2]
    kv = build.floordiv(h, groups) if groups is not views.ONE else h
    score = build.mul(build.acc(0), _scale(low, scale, query.shape[-1]))
    score = _masked(low, score, mask, is_causal, (*lead, h, s, key))
    attention = Attention(
        key=key,
        head=head,
        q=low.at(query, (*lead, h, s, head)),
        k=low.at(keys, (*lead, kv, key, head)),
        v=low.at(values, (*lead, kv, key, index[-1])),
        score=score,
        start=None,
        stop=None,
        scan=None,
        masked="zero",
    )
    if index[-1].is_const:
        raise UnsupportedError("attention with value heads of one element")
    wrap = lambda nest: Nest(nest.vars, nest.target, nest.dtype, nest.index, nest.body, (), attention)  # noqa: E731
    return low.emit_nest(shape, Lowering.dtype(meta(low)), index, index, build.acc(0), wrap=wrap)


def _scale(low: Lowering, scale: Any, size: Expr) -> Expr:
    if scale is not None:
        return scalar(low.number(scale), DType.F32)
    if not size.is_const:
        raise UnsupportedError("attention with a head size read at run time")
    return scalar(const(1 / math.sqrt(size.value), DType.F64), DType.F32)


def _masked(low: Lowering, score: Expr, mask: Any, is_causal: bool, index: tuple[Expr, ...]) -> Expr:
    minus = const(-math.inf, DType.F32)
    if is_causal:
        score = build.where(build.le(index[-1], index[-2]), score, minus)
    if mask is None:
        return score
    value = low.value(mask)
    element = low.at(value, views.broadcast(index, value.shape))
    if value.dtype is DType.BOOL:
        return build.where(element, score, minus)
    return build.add(score, build.cast(element, DType.F32))
