"""What a kernel's nest touches over one tile: boxes of its operands, from the check's own interval analysis.

Reads and writes are boxes that hold every element touched. A write ``covers`` its box where every element of it is
stored for certain. An index that data decides may be anything inside its dimension (targets test it at run time); all
other indices are shown here to stay inside at every value of the symbols.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from collections.abc import Sequence

from onelaunch.check.box import Box
from onelaunch.check.ranges import Ranges
from onelaunch.check.ranges import never_above
from onelaunch.check.ranges import upper
from onelaunch.check.store import Store
from onelaunch.check.store import picked
from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import walk
from onelaunch.program.program import Kernel
from onelaunch.program.program import Operand

Pick = tuple[int, int, int]  # operand whose elements pick the index, first, last + 1 (flattened)
Picks = tuple[Pick | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Touch:
    """A box of one operand. ``same``: the load's index is the store's own, so a store in place cannot disturb it."""

    operand: int
    box: Box
    picks: Picks  # a dimension: the elements that pick its index
    same: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """All that one tile touches, and the reasons why it may not."""

    reads: tuple[Touch, ...]
    write: Touch | None  # None: the tile is empty
    covers: bool
    faults: tuple[str, ...]
    distinct: tuple[int, ...] = ()  # operands whose elements must be distinct, or two steps may store at one place
    walked: bool = False  # two steps may store at one place, whatever is distinct


def footprint(kernel: Kernel, tile: Sequence[tuple[int, int]]) -> Footprint:
    """The footprint of ``kernel`` over ``tile`` (at the symbols' maxima)."""
    return _Analysis(kernel).run(tile)


class _Analysis:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.nest = kernel, kernel.nest
        self.number = {o.name: i for i, o in enumerate(kernel.operands)}
        self.reads: dict[Touch, None] = {}
        self.faults: dict[str, None] = {}
        self.seen: set[tuple[Expr, int]] = set()
        self.kept: list[Ranges] = []  # keeps ids in ``seen`` from being given twice

    def run(self, tile: Sequence[tuple[int, int]]) -> Footprint:
        r = Ranges({})
        for v, (low, high) in zip(self.nest.vars, tile, strict=True):
            r = self._keep(r.with_variable(v, (low, high - 1)))
        if r.empty:
            return Footprint((), None, False, ())
        for e, place in self._roots(r):
            if not place.empty:
                self._visit(e, place)
        for e in self.nest.index:
            self._visit(e, r)
        target = self.kernel.operands[self.number[self.nest.target]]
        box = self._box(target, self.nest.index, r, store=True)
        if box is None:
            return Footprint(tuple(self.reads), None, False, tuple(self.faults))
        store = Store(self.nest.vars, self.nest.index, target.shape, r)
        if not store.single:
            self.faults.setdefault(f"two elements may be stored at one place of {target.name}")
        touch = Touch(self.number[target.name], *box, same=True)
        distinct = tuple(self.number[n] for n in store.distinct)
        return Footprint(tuple(self.reads), touch, store.dense, tuple(self.faults), distinct, store.walked)

    def _keep(self, r: Ranges) -> Ranges:
        self.kept.append(r)
        return r

    def _roots(self, r: Ranges) -> Iterator[tuple[Expr, Ranges]]:
        yield self.nest.body, r
        for c in self.nest.contractions:
            inner = self._keep(r.with_variable(c.var))
            yield c.x, inner
            yield c.w, inner
        if (a := self.nest.attention) is not None:
            for e in (a.start, a.stop):
                if e is not None:
                    yield e, r
            yield a.q, self._keep(r.with_variable(a.head))
            at_key = r.with_variable(a.key)
            if a.start is not None:
                at_key = at_key.where(build.le(a.start, a.key), True)
            if a.stop is not None:
                at_key = at_key.where(build.lt(a.key, a.stop), True)
            if a.scan is not None:
                yield a.scan, self._keep(at_key)
                if a.masked != "all":  # such a row takes positions for which scan is false
                    at_key = at_key.where(a.scan, True)
            yield a.score, self._keep(at_key)
            yield a.k, self._keep(at_key.with_variable(a.head))
            yield a.v, self._keep(at_key)

    def _visit(self, e: Expr, r: Ranges) -> None:
        if (e, id(r)) in self.seen:
            return
        self.seen.add((e, id(r)))
        if e.op is Op.WHERE:
            self._visit(e.args[0], r)
            for side, holds in ((e.args[1], True), (e.args[2], False)):
                place = self._keep(r.where(e.args[0], holds))
                if not place.empty:
                    self._visit(side, place)
            return
        if e.op is Op.REDUCE:
            variable, body = e.args
            self._visit(variable.args[0], r)
            inner = self._keep(r.with_variable(variable))
            if not inner.empty:
                self._visit(body, inner)
            return
        if e.op is Op.VAR:
            return
        for a in e.args:
            self._visit(a, r)
        if e.op is Op.LOAD:
            operand = self.kernel.operands[self.number[e.attr]]
            box = self._box(operand, e.args, r, store=False)
            if box is not None:
                self.reads.setdefault(Touch(self.number[e.attr], *box, same=e.args == self.nest.index))

    def _box(self, operand: Operand, index: Sequence[Expr], r: Ranges, store: bool) -> tuple[Box, Picks] | None:
        """The box that ``index`` stays in, cut to the operand, and who picks; None where nothing is touched."""
        sides: list[tuple[int, int]] = []
        for i, extent in zip(index, operand.shape, strict=True):
            low, high = r.of(i)
            size = int(r.of(extent)[1])
            if not any(e.op is Op.LOAD for e in walk(i)):
                if low < 0 and not store:
                    self.faults.setdefault(f"index {i} of {operand.name} may be {low}")
                if not self._below(i, high, extent, r):
                    self.faults.setdefault(f"index {i} of {operand.name} may reach {high}, its size is {extent}")
            low, high = max(low, 0), min(high, size - 1)
            if low > high:
                return None
            sides.append((int(low), int(high) + 1))
        return tuple(sides), tuple(self._pick(i, r) for i in index)

    def _below(self, i: Expr, high: float, extent: Expr, r: Ranges) -> bool:
        if high < r.of(extent)[0]:
            return True
        if extent.is_const:
            return False
        if never_above(build.add(i, build.const(1)), extent, r):
            return True
        limit = upper(i, r)
        return isinstance(limit, Expr) and never_above(build.add(limit, build.const(1)), extent, r)

    def _pick(self, i: Expr, r: Ranges) -> Pick | None:
        """The elements that pick index ``i``: it is one of them, or negative."""
        source = picked(i, r)
        if source is None:
            return None
        low, high, step = 0.0, 0.0, 1.0
        operand = self.kernel.operands[self.number[source.attr]]
        for e, extent in zip(reversed(source.args), reversed(operand.shape), strict=True):
            found = r.of(e)
            if math.isinf(step) or math.isinf(found[0]) or math.isinf(found[1]):
                return None
            low, high = low + step * found[0], high + step * found[1]
            step = step * int(extent.value) if extent.is_const else math.inf
        return self.number[source.attr], int(low), int(high) + 1
