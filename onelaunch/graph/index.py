"""Integer index arithmetic: sums of terms in one canonical order, and exact rules for // and %.

A view is an index map, so chains of views become nested ``//`` and ``%``. The rules here undo them: with
``0 <= j < b``, ``(i * b + j) // b`` is ``i`` and ``(x // b) * b + x % b`` is ``x``.
"""

from __future__ import annotations

import math

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op

Range = tuple[int, int]
_UNKNOWN = (0, -1)  # cached in place of None


def _const(value: int) -> Expr:
    return Expr.make(Op.CONST, (), value, DType.I64)


def _key(e: Expr) -> str:
    if e._text is None:
        e._text = repr(e)
    return e._text


def terms(e: Expr) -> tuple[dict[Expr, int], int]:
    """``e`` as a sum: coefficients of its non-constant terms, and the constant."""
    if e.op is Op.CONST:
        return {}, int(e.value)
    if e.op is Op.ADD and e.dtype is DType.I64:
        out: dict[Expr, int] = {}
        constant = 0
        for part in e.args:
            more, c = terms(part)
            constant += c
            for term, k in more.items():
                out[term] = out.get(term, 0) + k
        return {t: k for t, k in out.items() if k}, constant
    if e.op is Op.MUL and e.dtype is DType.I64 and e.args[1].op is Op.CONST:
        more, c = terms(e.args[0])
        k = int(e.args[1].value)
        return {t: v * k for t, v in more.items()}, c * k
    if e.op is Op.NEG and e.dtype is DType.I64:
        more, c = terms(e.args[0])
        return {t: -v for t, v in more.items()}, -c
    return {e: 1}, 0


def from_terms(parts: dict[Expr, int], constant: int) -> Expr:
    """The canonical sum of these terms."""
    parts = _recombine({t: k for t, k in parts.items() if k})
    ordered = sorted(parts.items(), key=lambda item: (-abs(item[1]), _key(item[0])))
    total: Expr | None = None
    for term, k in ordered:
        piece = term if k == 1 else Expr.make(Op.MUL, (term, _const(k)), None, DType.I64)
        total = piece if total is None else Expr.make(Op.ADD, (total, piece), None, DType.I64)
    if total is None:
        return _const(constant)
    return total if constant == 0 else Expr.make(Op.ADD, (total, _const(constant)), None, DType.I64)


def _recombine(parts: dict[Expr, int]) -> dict[Expr, int]:
    """k*m*(x // m) + k*(x % m) -> k*x, until nothing changes."""
    changed = True
    while changed:
        changed = False
        for low, k in parts.items():
            if low.op is not Op.MOD or low.args[1].op is not Op.CONST:
                continue
            base, m = low.args
            high, high_constant = terms(floordiv(base, m))
            if len(high) != 1 or high_constant:
                continue
            ((high_term, factor),) = high.items()
            if parts.get(high_term) == k * int(m.value) * factor:
                rest = {t: v for t, v in parts.items() if t is not low and t is not high_term}
                more, c = terms(base)
                if c:
                    continue
                for term, v in more.items():
                    rest[term] = rest.get(term, 0) + v * k
                parts = {t: v for t, v in rest.items() if v}
                changed = True
                break
    return parts


def add(a: Expr, b: Expr) -> Expr:
    """``a + b`` in canonical form."""
    ta, ca = terms(a)
    tb, cb = terms(b)
    out = dict(ta)
    for term, k in tb.items():
        out[term] = out.get(term, 0) + k
    return from_terms(out, ca + cb)


def mul(a: Expr, b: Expr) -> Expr:
    """``a * b``, sums multiplied out."""
    if a.op is Op.CONST:
        a, b = b, a
    if b.op is Op.CONST:
        parts, c = terms(a)
        k = int(b.value)
        return from_terms({t: v * k for t, v in parts.items()}, c * k)
    ta, ca = terms(a)
    tb, cb = terms(b)
    if len(ta) == 1 and len(tb) == 1 and not ca and not cb:
        ((pa, ka),) = ta.items()
        ((pb, kb),) = tb.items()
        first, *others = sorted((*_factors(pa), *_factors(pb)), key=_key)
        for factor in others:  # one form for every product of the same factors
            first = Expr.make(Op.MUL, (first, factor), None, DType.I64)
        return from_terms({first: ka * kb}, 0)
    product = _const(ca * cb)
    for term, k in ta.items():
        product = add(product, mul(_const(k * cb), term))
        for other, m in tb.items():
            product = add(product, mul(_const(k * m), mul(term, other)))
    for other, m in tb.items():
        product = add(product, mul(_const(ca * m), other))
    return product


def _factors(e: Expr) -> tuple[Expr, ...]:
    if e.op is Op.MUL and e.dtype is DType.I64:
        return (*_factors(e.args[0]), *_factors(e.args[1]))
    return (e,)


def floordiv(a: Expr, b: Expr) -> Expr:
    """``a // b``: what divides leaves the division, what is smaller than the divisor vanishes."""
    if b.op is not Op.CONST or int(b.value) <= 0:
        ra, rb = bounds(a), bounds(b)
        if a.op is Op.VAR and a.args[0] is b:
            return _const(0)
        if ra is not None and rb is not None and ra[0] >= 0 and ra[1] < rb[0]:
            return _const(0)
        return Expr.make(Op.FLOORDIV, (a, b), None, DType.I64)
    d = int(b.value)
    if d == 1:
        return a
    parts, c = terms(a)
    whole = {t: k // d for t, k in parts.items() if k % d == 0}
    rest = {t: k for t, k in parts.items() if k % d}
    if not rest:
        return from_terms(whole, c // d)
    remainder = from_terms(rest, c % d)
    found = bounds(remainder)
    if found is not None and found[0] >= 0 and found[1] < d:
        return from_terms(whole, c // d)
    if whole or c // d:
        return add(from_terms(whole, c // d), floordiv(remainder, b))
    g = math.gcd(d, *rest.values())
    if g > 1:
        return floordiv(from_terms({t: k // g for t, k in rest.items()}, (c % d) // g), _const(d // g))
    if remainder.op is Op.FLOORDIV and remainder.args[1].op is Op.CONST and int(remainder.args[1].value) > 0:
        return floordiv(remainder.args[0], _const(d * int(remainder.args[1].value)))
    return Expr.make(Op.FLOORDIV, (remainder, b), None, DType.I64)


def mod(a: Expr, b: Expr) -> Expr:
    """``a % b``: multiples of the divisor vanish."""
    if b.op is not Op.CONST or int(b.value) <= 0:
        ra, rb = bounds(a), bounds(b)
        if a.op is Op.VAR and a.args[0] is b:
            return a
        if ra is not None and rb is not None and ra[0] >= 0 and ra[1] < rb[0]:
            return a
        return Expr.make(Op.MOD, (a, b), None, DType.I64)
    d = int(b.value)
    parts, c = terms(a)
    rest = {t: k % d for t, k in parts.items() if k % d}
    c %= d
    if not rest:
        return _const(c)
    remainder = from_terms(rest, c)
    found = bounds(remainder)
    if found is not None and found[0] >= 0 and found[1] < d:
        return remainder
    g = math.gcd(d, c, *rest.values())
    if g > 1:
        inner = mod(from_terms({t: k // g for t, k in rest.items()}, c // g), _const(d // g))
        return mul(inner, _const(g))
    if remainder.op is Op.MOD and remainder.args[1].op is Op.CONST and int(remainder.args[1].value) % d == 0:
        return mod(remainder.args[0], b)
    return Expr.make(Op.MOD, (remainder, b), None, DType.I64)


def bounds(e: Expr, env: dict[Expr, Range] | None = None) -> Range | None:
    """The smallest interval [low, high] known to hold the integer ``e``, or None where nothing is known.

    ``env`` narrows variables (a tile's part of their range); without it every variable has its full extent.
    """
    if env is None:
        if e._range is None:
            e._range = _bounds(e, None) or _UNKNOWN
        return None if e._range is _UNKNOWN else e._range
    return _bounds(e, env)


def _bounds(e: Expr, env: dict[Expr, Range] | None) -> Range | None:
    if env is not None and e in env:
        return env[e]
    if e.op is Op.CONST:
        return None if isinstance(e.value, float) else (int(e.value), int(e.value))
    if e.op is Op.SYM:
        return e.attr[1], e.attr[2]
    if e.op is Op.VAR:
        extent = bounds(e.args[0])
        return None if extent is None else (0, max(extent[1] - 1, 0))
    if e.dtype is not DType.I64 or e.op is Op.LOAD:
        return None
    if e.op is Op.CAST:
        return bounds(e.args[0], env) if e.args[0].dtype.is_int else None
    if e.op is Op.WHERE:
        sides = [bounds(a, env) for a in e.args[1:]]
    else:
        sides = [bounds(a, env) for a in e.args]
    if any(s is None for s in sides):
        if e.op is Op.MOD and sides and e.args[1].is_const and int(e.args[1].value) > 0:
            return 0, int(e.args[1].value) - 1
        return None
    return _combine(e.op, [s for s in sides if s is not None])


def _combine(op: Op, sides: list[Range]) -> Range | None:
    (a, b), (c, d) = sides[0], sides[-1]
    match op:
        case Op.ADD:
            return a + c, b + d
        case Op.SUB:
            return a - d, b - c
        case Op.MUL:
            products = [a * c, a * d, b * c, b * d]
            return min(products), max(products)
        case Op.NEG:
            return -b, -a
        case Op.MIN:
            return min(a, c), min(b, d)
        case Op.MAX:
            return max(a, c), max(b, d)
        case Op.WHERE:
            return min(a, c), max(b, d)
        case Op.FLOORDIV if c > 0:
            quotients = [a // c, a // d, b // c, b // d]
            return min(quotients), max(quotients)
        case Op.MOD if c > 0:
            return (a, b) if a >= 0 and b < c else (0, d - 1)
        case _:
            return None
