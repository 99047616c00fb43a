"""Where a nest stores: whether no place is stored to twice, and whether every place of the box is stored to."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from onelaunch.check.ranges import Ranges
from onelaunch.check.ranges import never_above
from onelaunch.check.ranges import upper
from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.graph.index import terms

ENUMERABLE = 1 << 16  # largest tile whose indices are listed one by one


class Store:
    """The map from a tile's variables to places.

    ``single``: it is one to one, given that the elements of the operands named in ``distinct`` are; or only data may
    send two steps to one place (``walked``: steps run in order, and the last one wins). ``dense``: it fills its box.
    """

    def __init__(self, variables: Sequence[Expr], index: Sequence[Expr], shape: Sequence[Expr], r: Ranges) -> None:
        self.r, self.index = r, index
        self.lengths = {v: int(r.of(v)[1] - r.of(v)[0]) + 1 for v in variables}
        self.distinct: dict[str, None] = {}
        self.single = self.dense = True
        self._told: set[Expr] = set()  # variables that the place tells apart
        plain: list[Expr] = []
        data: list[Expr] = []
        for i in index:
            (data if any(e.op is Op.LOAD for e in walk(i)) else plain).append(i)
        self._plain(plain)
        for i in data:
            self._data(i, data)
        loose = [v for v, n in self.lengths.items() if n > 1 and v not in self._told]
        self.walked = bool(loose)
        if any(not any(v in i.free for i in data) for v in loose):
            self.single = False
        self.dense = self.dense and not data and all(self._reaches(i, n) for i, n in zip(index, shape, strict=True))

    def _plain(self, index: Sequence[Expr]) -> None:
        parts = [{t: k for t, k in terms(i)[0].items() if t.op is not Op.SYM} for i in index]
        used = [t for p in parts for t in p]
        if all(t in self.lengths for t in used) and len(set(used)) == len(used):
            for p in parts:
                self._mixed_radix(p)
            self._told.update(used)
        else:
            self._enumerate(index)
        if any(_symbolic(i) for i in index):
            self.dense = False

    def _mixed_radix(self, parts: dict[Expr, int]) -> None:
        """Each coefficient must exceed what lower terms reach (single) and not exceed it by more than 1 (dense)."""
        reach = 0
        for t, k in sorted(parts.items(), key=lambda item: abs(item[1])):
            if self.lengths[t] == 1:
                continue
            self.single = self.single and abs(k) > reach
            self.dense = self.dense and abs(k) <= reach + 1
            reach += abs(k) * (self.lengths[t] - 1)

    def _enumerate(self, index: Sequence[Expr]) -> None:
        """List all places, where the index is not affine."""
        used = {v: n for v, n in self.lengths.items() if any(v in i.free for i in index)}
        count = math.prod(used.values())
        self.dense = False
        self._told.update(used)
        if any(_symbolic(i) for i in index) or count > ENUMERABLE:
            self.single = False
            return
        grids = np.meshgrid(*(np.arange(n) + int(self.r.of(v)[0]) for v, n in used.items()), indexing="ij")
        values = dict(zip(used, (g.reshape(-1) for g in grids), strict=True))
        try:
            places = np.stack([np.broadcast_to(_value(i, values), (count,)) for i in index], 1)
        except NotImplementedError:
            self.single = False
            return
        kept = places[(places >= 0).all(1)]
        distinct = len(np.unique(kept, axis=0)) if len(kept) else 0
        self.single = self.single and distinct == len(kept)
        self.dense = distinct == math.prod(int(self.r.of(i)[1]) - max(int(self.r.of(i)[0]), 0) + 1 for i in index)

    def _data(self, i: Expr, others: Sequence[Expr]) -> None:
        """An index decided by data tells variables apart where the data are distinct, or only shift the index."""
        shift, _ = terms(i)
        moved = [t for t in shift if t.op is Op.VAR]
        if moved and all(t in moved or t.op is Op.SYM or not self._varies(t) for t in shift):
            self._mixed_radix({t: shift[t] for t in moved})
            self._told.update(moved)
            return
        source = picked(i, self.r)
        if source is None and i.op is Op.FLOORDIV and any(o.op is Op.MOD and o.args == i.args for o in others):
            source = picked(i.args[0], self.r)
        if source is None or len(source.args) != 1:
            return
        parts, _ = terms(source.args[0])
        moved = [t for t in parts if t in self.lengths]
        if all(t in moved or t.op is Op.SYM or not self._varies(t) for t in parts):
            self._mixed_radix({t: parts[t] for t in moved})
            self._told.update(moved)
            if any(self.lengths[t] > 1 for t in moved):
                self.distinct.setdefault(source.attr)

    def _varies(self, t: Expr) -> bool:
        return any(self.lengths.get(v, 2) > 1 for v in t.free)

    def _reaches(self, i: Expr, extent: Expr) -> bool:
        """Cut at run time, the loop must still reach the end of the dimension wherever its maximum does."""
        if all(v.args[0].is_const for v in i.free):
            return self.r.of(i)[0] >= 0
        limit = upper(i, self.r)
        parts, _ = terms(i)
        if not isinstance(limit, Expr) or any(t.op is not Op.VAR or k < 0 for t, k in parts.items()):
            return False
        return never_above(build.add(extent, build.const(-1)), limit, self.r)


def picked(i: Expr, r: Ranges) -> Expr | None:
    """The LOAD that is the value of ``i`` wherever that is not negative, or None."""
    if i.op is Op.CAST and i.args[0].dtype.is_int:
        return picked(i.args[0], r)
    if i.op is Op.WHERE:
        for one, other in ((1, 2), (2, 1)):
            if r.of(i.args[other])[1] < 0:
                return picked(i.args[one], r.where(i.args[0], one == 1))
        return None
    return i if i.op is Op.LOAD else None


def _symbolic(e: Expr) -> bool:
    """Whether a symbol takes part, other than as the extent of a variable."""
    return e.op is Op.SYM or (e.op is not Op.VAR and any(_symbolic(a) for a in e.args))


def _value(e: Expr, values: dict[Expr, np.ndarray]) -> np.ndarray:
    if e.op is Op.VAR:
        return values[e]
    if e.op is Op.CONST:
        return np.asarray(int(e.value))
    args = [_value(a, values) for a in e.args]
    if e.op not in _NUMPY:
        raise NotImplementedError(e.op)
    return np.asarray(_NUMPY[e.op](*args))


_NUMPY: dict[Op, Callable[..., Any]] = {
    Op.ADD: np.add, Op.SUB: np.subtract, Op.MUL: np.multiply, Op.NEG: np.negative, Op.FLOORDIV: np.floor_divide,
    Op.MOD: np.mod, Op.MIN: np.minimum, Op.MAX: np.maximum, Op.WHERE: np.where, Op.LT: np.less, Op.LE: np.less_equal,
    Op.EQ: np.equal, Op.NE: np.not_equal, Op.AND: np.logical_and, Op.OR: np.logical_or, Op.NOT: np.logical_not,
}  # fmt: skip
