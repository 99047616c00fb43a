"""What transform/forward.py has put into an attention: one position whose key and value come from elsewhere."""

from __future__ import annotations

import dataclasses

from onelaunch.graph import build
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Attention


@dataclasses.dataclass(frozen=True, slots=True)
class Newest:
    """Position ``at`` has this key and value, whatever lies in the cache: loads, perhaps cast."""

    at: Expr
    key: Expr
    value: Expr


def split_newest(a: Attention) -> tuple[Attention, Newest | None]:
    """The attention over what lies in the cache alone, and the position that does not."""
    keys = _split(a.k, a.key)
    guarded = a.part is not None and a.v.op is Op.WHERE  # transform/split.py: against the elements behind a value
    values = _split(a.v.args[1] if guarded else a.v, a.key)
    if keys is None or values is None or keys[0] is not values[0]:
        return a, None
    v = build.where(a.v.args[0], values[2], a.v.args[2]) if guarded else values[2]
    return dataclasses.replace(a, k=keys[2], v=v), Newest(keys[0], keys[1], values[1])


def _split(e: Expr, key: Expr) -> tuple[Expr, Expr, Expr] | None:
    """(position, what is there, what is elsewhere)."""
    if e.op is Op.CAST:
        found = _split(e.args[0], key)
        return None if found is None else (found[0], build.cast(found[1], e.dtype), build.cast(found[2], e.dtype))
    if e.op is not Op.WHERE or e.args[0].op is not Op.EQ or key not in e.args[0].args or key in e.args[1].free:
        return None
    left, right = e.args[0].args
    at = right if left is key else left
    return None if key in at.free or loaded(e.args[1]) is None else (at, e.args[1], e.args[2])


def loaded(e: Expr) -> Expr | None:
    """The load of a float that ``e`` casts, if it does nothing else."""
    while e.op is Op.CAST and e.args[0].dtype.is_float:
        e = e.args[0]
    return e if e.op is Op.LOAD else None
