"""Memory of a kernel: its operands, and LOADs lowered to one flattened address.

After lowering, the attribute of a LOAD says what stands there: ``name`` is an access that is in bounds wherever its
variables are; ``!name`` is one that may be out of bounds where a condition around it does not hold; ``?name.d`` is not
a load but index d of that operand, picked by data and checked at run time (its one argument is the index).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from onelaunch.graph import build
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.expr import walk
from onelaunch.graph.index import bounds
from onelaunch.program.program import Operand


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """An operand and the C++ name of its address; ``number`` is the operand's, or -1 for scratch memory."""

    operand: Operand
    pointer: str
    number: int = -1


class Memory:
    """The operands of one kernel by name."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = {p.operand.name: p for p in places}
        self.results: dict[Expr, Expr] = {}  # what stands for an ACC: a lowered expression
        self._lowered: dict[Expr, Expr] = {}
        self._unsafe: dict[Expr, bool] = {}

    def __getitem__(self, attr: str) -> Place:
        """The place of a lowered LOAD."""
        return self.places[attr.lstrip("!")]

    def pointer_of(self, number: int) -> str:
        """The C++ name of an operand."""
        return next(p.pointer for p in self.places.values() if p.number == number)

    def add(self, place: Place) -> None:
        """Declare one more operand, e.g. scratch memory."""
        assert place.operand.name not in self.places, f"operand {place.operand.name} is declared twice"
        self.places[place.operand.name] = place

    def lower(self, root: Expr) -> Expr:
        """``root`` with every LOAD's indices flattened to one address in elements."""
        for node in walk(root):
            if node in self._lowered:
                continue
            if node.op is Op.ACC:
                self._lowered[node] = self.results[node]
                continue
            args = tuple(self._lowered[a] for a in node.args)
            new = node if args == node.args else build.rebuild(node, args)
            self._lowered[node] = self._flatten(node, args) if node.op is Op.LOAD else new
        return self._lowered[root]

    def address(self, name: str, indices: Iterable[Expr]) -> Expr:
        """The flattened address of (lowered) ``indices`` in an operand."""
        total = build.const(0)
        for index, stride in zip(indices, self.places[name].operand.strides, strict=True):
            total = build.add(total, build.mul(index, stride))
        return total

    def _flatten(self, node: Expr, args: tuple[Expr, ...]) -> Expr:
        operand = self.places[node.attr].operand
        indices, safe = [], True
        for d, (index, extent) in enumerate(zip(args, operand.shape, strict=True)):
            inside = in_bounds(index, extent)
            safe &= inside
            if not inside and loads(index):
                index = Expr.make(Op.LOAD, (index,), f"?{operand.name}.{d}", DType.I64)
            indices.append(index)
        name = operand.name if safe else f"!{operand.name}"
        return Expr.make(Op.LOAD, (self.address(operand.name, indices),), name, node.dtype)

    def unsafe(self, e: Expr) -> bool:
        """True where ``e`` must not be evaluated unless the conditions around it hold."""
        known = self._unsafe.get(e)
        if known is None:
            known = (e.op is Op.LOAD and e.attr[0] in "!?") or any(self.unsafe(a) for a in e.args)
            self._unsafe[e] = known
        return known


def in_bounds(index: Expr, extent: Expr) -> bool:
    """True where 0 <= index < extent is known for all values of variables and symbols."""
    if index.op is Op.VAR and index.args[0] is extent:
        return True
    found, size = bounds(index), bounds(extent)
    return found is not None and size is not None and found[0] >= 0 and found[1] < size[0]
