"""Interval analysis of integer expressions, written apart from the one that the transforms use.

A ``Ranges`` holds what is known at one place of a nest: intervals of variables (and of any other expression that a
condition has narrowed) and upper limits of linear forms, such as ``i - T <= -1``. Unknown ends are infinite.
"""

from __future__ import annotations

import math

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.index import terms

Interval = tuple[float, float]  # both ends included; ints, or infinite
Form = frozenset[tuple[Expr, int]]
EVERYTHING: Interval = (-math.inf, math.inf)
_TYPES: dict[DType, Interval] = {
    DType.BOOL: (0, 1), DType.U8: (0, 255), DType.I8: (-128, 127),
    DType.I16: (-(1 << 15), (1 << 15) - 1), DType.I32: (-(1 << 31), (1 << 31) - 1),
}  # fmt: skip


class Ranges:
    """Intervals at one place of a nest. ``empty``: the conditions contradict each other, the place is never reached."""

    def __init__(self, known: dict[Expr, Interval], limits: dict[Form, float] | None = None) -> None:
        self.known, self.limits = known, limits or {}
        self.empty = any(lo > hi for lo, hi in known.values())
        self._memo: dict[Expr, Interval] = {}

    def of(self, e: Expr) -> Interval:
        """An interval that holds every value of ``e``."""
        found = self._memo.get(e)
        if found is None:
            found = self._memo[e] = self._compute(e)
        return found

    def with_variable(self, variable: Expr, interval: Interval | None = None) -> Ranges:
        """The place inside a loop over ``variable``."""
        extent = variable.args[0]
        high = self.of(extent)[1] - 1
        low: float = 0
        if interval is not None:
            low, high = max(low, interval[0]), min(high, interval[1])
        inner = Ranges({**self.known, variable: (low, high)}, self.limits)
        return inner if extent.is_const else inner.where(build.lt(variable, extent), True)

    def where(self, condition: Expr, holds: bool) -> Ranges:
        """The place where ``condition`` is known to hold, or not to."""
        inner = Ranges(dict(self.known), dict(self.limits))
        inner.empty = self.empty
        inner._assume(condition, holds)
        inner._memo.clear()
        return inner

    def _assume(self, c: Expr, holds: bool) -> None:
        if c.op is Op.CONST:
            self.empty = self.empty or bool(c.value) != holds
        elif c.op is Op.NOT and c.dtype is DType.BOOL:
            self._assume(c.args[0], not holds)
        elif c.dtype is DType.BOOL and c.op is (Op.AND if holds else Op.OR):
            for a in c.args:
                if a.dtype is DType.BOOL:
                    self._assume(a, holds)
        elif c.op in (Op.LT, Op.LE, Op.EQ, Op.NE) and all(a.dtype.is_int for a in c.args):
            a, b = c.args
            if c.op is Op.LT:
                self._at_most(*((a, b, -1) if holds else (b, a, 0)))
            elif c.op is Op.LE:
                self._at_most(*((a, b, 0) if holds else (b, a, -1)))
            elif holds is (c.op is Op.EQ):
                self._at_most(a, b, 0)
                self._at_most(b, a, 0)

    def _at_most(self, a: Expr, b: Expr, slack: int) -> None:
        """Learn that a - b <= slack."""
        parts, constant = terms(a)
        parts = dict(parts)
        other, c = terms(b)
        for t, k in other.items():
            parts[t] = parts.get(t, 0) - k
        parts = {t: k for t, k in parts.items() if k}
        limit = slack - constant + c
        if not parts:
            self.empty = self.empty or limit < 0
            return
        form = frozenset(parts.items())
        self.limits[form] = min(limit, self.limits.get(form, math.inf))
        lows = {t: min(_times(k, self.of(t))) for t, k in parts.items()}
        for t, k in parts.items():
            rest = sum(low for u, low in lows.items() if u is not t)
            if math.isinf(rest):
                continue
            room = limit - rest
            low, high = self.of(t)
            if k > 0:
                high = min(high, room // k)
            else:
                low = max(low, -(room // -k))
            self._narrow(t, (low, high))

    def _narrow(self, t: Expr, interval: Interval) -> None:
        self.known[t] = interval
        self._memo.clear()
        self.empty = self.empty or interval[0] > interval[1]
        if t.op is Op.CAST and t.args[0].dtype.is_int and _fits(self.of(t.args[0]), t.dtype):
            self._narrow(t.args[0], interval)
        elif t.op is Op.FLOORDIV and t.args[1].is_const and t.args[1].value > 0 and t.dtype is DType.I64:
            d = int(t.args[1].value)
            low, high = self.of(t.args[0])
            self._narrow(t.args[0], (max(low, interval[0] * d), min(high, interval[1] * d + d - 1)))
        elif t.op is Op.MOD and t.args[1].is_const and t.args[1].value > 0 and t.dtype is DType.I64:
            self._narrow(t.args[0], _with_remainder(self.of(t.args[0]), interval, int(t.args[1].value)))

    def _compute(self, e: Expr) -> Interval:
        found = self._shape(e)
        known = self.known.get(e)
        if known is not None:
            found = max(found[0], known[0]), min(found[1], known[1])
        if e.op is Op.ADD and self.limits and e.dtype is DType.I64:
            parts, constant = terms(e)
            above = self.limits.get(frozenset(parts.items()))
            if above is not None:
                found = found[0], min(found[1], above + constant)
            below = self.limits.get(frozenset((t, -k) for t, k in parts.items()))
            if below is not None:
                found = max(found[0], constant - below), found[1]
        return found

    def _shape(self, e: Expr) -> Interval:
        match e.op:
            case Op.CONST:
                return EVERYTHING if isinstance(e.value, float) else (int(e.value), int(e.value))
            case Op.SYM:
                return e.attr[1], e.attr[2]
            case Op.VAR:
                return self.known.get(e) or (0, self.of(e.args[0])[1] - 1)
            case Op.LOAD | Op.REDUCE | Op.ACC:
                return _TYPES.get(e.dtype, EVERYTHING)
            case Op.CAST:
                return self._cast(e)
            case Op.WHERE:
                sides = [self.where(e.args[0], True), self.where(e.args[0], False)]
                found = [r.of(a) for r, a in zip(sides, e.args[1:], strict=True) if not r.empty]
                return (min(f[0] for f in found), max(f[1] for f in found)) if found else EVERYTHING
        if not e.dtype.is_int:
            return _TYPES.get(e.dtype, EVERYTHING)
        return _combine(e.op, [self.of(a) for a in e.args])

    def _cast(self, e: Expr) -> Interval:
        source = e.args[0]
        whole = _TYPES.get(e.dtype, EVERYTHING)
        if source.dtype is DType.BOOL:
            return 0, 1
        if not (source.dtype.is_int and e.dtype.is_int):
            return whole
        inner = self.of(source)
        return inner if _fits(inner, e.dtype) else whole


def _with_remainder(whole: Interval, remainder: Interval, d: int) -> Interval:
    """The part of ``whole`` between its first and its last number whose remainder by ``d`` is in ``remainder``."""
    low, high = whole
    first, last = max(remainder[0], 0), min(remainder[1], d - 1)
    if first > last:
        return 1, 0
    if not math.isinf(low):
        at = low % d
        low += first - at if at < first else d - at + first if at > last else 0
    if not math.isinf(high):
        at = high % d
        high -= at - last if at > last else at + d - last if at < first else 0
    return low, high


def _fits(interval: Interval, dtype: DType) -> bool:
    low, high = _TYPES.get(dtype, EVERYTHING)
    return low <= interval[0] and interval[1] <= high


def _times(k: float, interval: Interval) -> Interval:
    ends = [0 if 0 in (k, x) else k * x for x in interval]
    return min(ends), max(ends)


def _combine(op: Op, sides: list[Interval]) -> Interval:
    (a, b), (c, d) = sides[0], sides[-1]
    match op:
        case Op.ADD:
            return a + c, b + d
        case Op.SUB:
            return a - d, b - c
        case Op.MUL:
            ends = [*_times(c, (a, b)), *_times(d, (a, b))]
            return min(ends), max(ends)
        case Op.NEG:
            return -b, -a
        case Op.ABS:
            return (0 if a <= 0 <= b else min(abs(a), abs(b))), max(abs(a), abs(b))
        case Op.MIN:
            return min(a, c), min(b, d)
        case Op.MAX:
            return max(a, c), max(b, d)
        case Op.FLOORDIV if c > 0 and not math.isinf(d):
            ends = [x if math.isinf(x) else x // y for x in (a, b) for y in (c, d)]
            return min(ends), max(ends)
        case Op.MOD if c == d and c > 0 and not (math.isinf(a) or math.isinf(b)) and a // c == b // c:
            return a % c, b % c
        case Op.MOD if c > 0:
            return (0, min(b, d - 1)) if a >= 0 else (0, d - 1)
        case _:
            return EVERYTHING


def upper(e: Expr, r: Ranges) -> Expr | float:
    """An upper limit of ``e`` as an expression over symbols alone (exact where ``e`` rises with its variables)."""
    if e.op is Op.SYM or e.op is Op.CONST:
        return e
    if e.op is Op.VAR:
        extent = e.args[0]
        found = r.of(e)[1]
        if not extent.is_const and not extent.free:
            return build.add(extent, build.const(-1))
        return found if math.isinf(found) else build.const(int(found))
    if e.op is Op.ADD and e.dtype is DType.I64:
        sides = [upper(a, r) for a in e.args]
        if all(isinstance(s, Expr) for s in sides):
            return build.add(*sides)  # type: ignore[arg-type]
    elif e.op is Op.MUL and e.args[1].is_const and e.args[1].value >= 0:
        side = upper(e.args[0], r)
        if isinstance(side, Expr):
            return build.mul(side, e.args[1])
    elif e.op is Op.FLOORDIV and e.args[1].is_const and e.args[1].value > 0:
        side = upper(e.args[0], r)
        if isinstance(side, Expr):
            return build.floordiv(side, e.args[1])
    elif e.op is Op.MOD and not e.args[1].is_const and not e.args[1].free and r.of(e.args[1])[0] > 0:
        return build.add(e.args[1], build.const(-1))
    found = r.of(e)[1]
    return found if math.isinf(found) else build.const(int(found))


def never_above(a: Expr, b: Expr, r: Ranges) -> bool:
    """Whether a <= b can be shown to hold always."""
    return r.of(build.sub(a, b))[1] <= 0
