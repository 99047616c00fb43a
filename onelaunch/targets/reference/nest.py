"""Running one nest over one tile: Rows and Scatter directly, Linear as matrix products, Attend as written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence

import torch

from onelaunch.graph.expr import Expr
from onelaunch.graph.nest import PART_BLOCK
from onelaunch.graph.nest import Attention
from onelaunch.graph.nest import Contraction
from onelaunch.targets.reference.access import Access
from onelaunch.targets.reference.frame import Frame
from onelaunch.targets.reference.memory import integer
from onelaunch.targets.reference.plan import Plan


def run(plan: Plan, tile: Sequence[tuple[int, int]], symbols: Mapping[str, int], access: Access) -> None:
    """Evaluate the nest over ``tile``, cut to the run-time extents, and store the result."""
    nest = plan.nest
    frame = Frame(plan, symbols, access)
    for v, (low, high) in zip(nest.vars, tile, strict=True):
        high = min(high, integer(v.args[0], symbols))
        if low >= high:
            return
        frame.ranges[v] = (low, high)
    sums = {number: _contract(c, frame) for number, c in enumerate(nest.contractions)}
    if nest.attention is not None:
        sums = {0: _attend(nest.attention, frame)}
    body = frame.child(sums)
    access.store(nest.target, nest.index, body.value(nest.body), body)


def product(a: torch.Tensor, b: torch.Tensor, axis: int, extent: int) -> torch.Tensor:
    """Sum of ``a * b`` over ``axis``, which has ``extent`` positions; all other axes broadcast."""
    rank = max(a.dim(), b.dim(), -axis)
    a = a.reshape((1,) * (rank - a.dim()) + tuple(a.shape))
    b = b.reshape((1,) * (rank - b.dim()) + tuple(b.shape))
    at = rank + axis
    a = a.expand(*a.shape[:at], extent, *a.shape[at + 1 :])
    b = b.expand(*b.shape[:at], extent, *b.shape[at + 1 :])
    shape = [max(m, n) if 0 not in (m, n) else 0 for m, n in zip(a.shape, b.shape, strict=True)]
    shape[at] = 1
    letters = [chr(ord("a") + i) for i in range(rank)]

    def squeezed(t: torch.Tensor) -> tuple[torch.Tensor, str]:
        kept = [i for i in range(rank) if t.shape[i] != 1 or i == at]
        return t.reshape([t.shape[i] for i in kept]), "".join(letters[i] for i in kept)

    (a, a_names), (b, b_names) = squeezed(a), squeezed(b)
    out = "".join(letters[i] for i in range(rank) if i != at and (letters[i] in a_names or letters[i] in b_names))
    return torch.einsum(f"{a_names},{b_names}->{out}", a, b).reshape(shape)


def _contract(c: Contraction, frame: Frame) -> torch.Tensor:
    extent = integer(c.var.args[0], frame.symbols)
    frame.ranges[c.var] = (0, extent)
    x, w = frame.value(c.x), frame.value(c.w)
    wide = torch.float64 if torch.float64 in (x.dtype, w.dtype) else torch.float32
    return product(x.to(wide), w.to(wide), frame.plan.axis[c.var], extent).to(torch.float32)


def _attend(a: Attention, frame: Frame) -> torch.Tensor:
    """softmax(score(q k)) v over the positions that count; the loop covers what start and stop leave."""
    capacity = integer(a.key.args[0], frame.symbols)
    low, high = 0, capacity
    if a.start is not None:
        low = min(max(int(frame.value(a.start).min()), 0), capacity)
    if a.stop is not None:
        high = max(min(int(frame.value(a.stop).max()), capacity), low)
    inner = frame.child({})
    inner.ranges[a.key] = (low, high)
    counts = _counting(a, inner, capacity)
    if high == low and a.part is not None:
        return _unfinished(torch.zeros(1), torch.full((1,), -math.inf), torch.zeros(1), frame)
    if high == low:
        return torch.full((1,), math.nan if a.masked == "nan" else 0.0)
    extent = integer(a.head.args[0], frame.symbols)
    inner = inner.child({}, counts)
    inner.ranges[a.head] = (0, extent)
    scalars = product(_query(inner, a.q), inner.value(a.k).float(), frame.plan.axis[a.head], extent)
    score = inner.child({0: scalars}, counts).value(a.score).float()
    left_out = score == -math.inf
    if counts is not None:
        left_out, score = left_out | ~counts, torch.where(counts, score, -math.inf)
    total, top, weight = _softmax_times(score, left_out, inner.value(a.v).float(), frame.plan.axis[a.key], high - low)
    if a.part is not None:
        return _unfinished(total, top, weight, frame)
    empty = math.nan if a.masked == "nan" else 0.0
    return torch.where(weight == 0, empty, total / torch.where(weight == 0, 1.0, weight))


def _unfinished(total: torch.Tensor, top: torch.Tensor, weight: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Along the last variable: the sums, then the peak, then the weight."""
    last = frame.plan.nest.vars[-1]
    behind = frame.value(last) - frame.value(last.args[0])
    return torch.where(behind == -1, weight, torch.where(behind == -2, top, total))


def _query(frame: Frame, q: Expr) -> torch.Tensor:
    """The query does not depend on the position, so it is evaluated where no position counts, too."""
    return (frame if frame.base is None else frame.child({})).value(q).float()


def _counting(a: Attention, frame: Frame, capacity: int) -> torch.Tensor | None:
    counts: torch.Tensor | None = None
    if a.start is not None:
        counts = frame.value(a.key) >= frame.value(a.start)
    if a.stop is not None:
        below = frame.value(a.key) < frame.value(a.stop)
        counts = below if counts is None else counts & below
    if a.scan is not None:
        seen = frame.child({}, counts).value(a.scan)
        if a.masked == "all":  # a row that sees no position takes every one
            seen = seen | ~seen.any(frame.plan.axis[a.key], keepdim=True)
        counts = seen if counts is None else counts & seen
    if a.part is not None:
        mine = _in_part(a, frame, counts, capacity)
        counts = mine if counts is None else counts & mine
    return counts


def _in_part(a: Attention, frame: Frame, counts: torch.Tensor | None, capacity: int) -> torch.Tensor:
    """The positions of the row's part: see ``Attention``."""
    assert a.part is not None, "no parts"
    key, axis = frame.value(a.key), frame.plan.axis[a.key]
    begin = torch.zeros((), dtype=torch.int64) if a.start is None else frame.value(a.start).clamp(0, capacity)
    end = torch.full((), capacity) if a.stop is None else frame.value(a.stop).clamp(max=capacity)
    if a.scan is not None and counts is not None:
        end = torch.where(counts, key + 1, 0).amax(axis, keepdim=True)
    blocks = ((end - begin).clamp(min=0) + PART_BLOCK - 1) // PART_BLOCK
    parts = integer(a.part.args[0], frame.symbols)
    size = (blocks + parts - 1) // parts * PART_BLOCK
    first = begin + frame.value(a.part) * size
    return (key >= first) & (key < first + size)


def _softmax_times(
    score: torch.Tensor, left_out: torch.Tensor, v: torch.Tensor, axis: int, extent: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """sum(exp(score - peak) * v), the peak, and sum(exp(score - peak))."""
    at = score.dim() + axis
    if score.dim() < -axis:
        score, at = score.reshape((1,) * (-axis - score.dim()) + tuple(score.shape)), 0
    if score.shape[at] != extent:
        score = score.expand(*score.shape[:at], extent, *score.shape[at + 1 :])
    top = score.amax(at, keepdim=True)
    weight = torch.where(left_out, 0.0, torch.exp(score - torch.where(top == -math.inf, 0.0, top)))
    if not torch.isfinite(v).all():
        v, left_out = torch.broadcast_tensors(v, left_out)
        total = product(weight, torch.where(left_out, 0.0, v), axis, extent)
    else:
        total = product(weight, v, axis, extent)
    return total, top, weight.sum(at, keepdim=True)
