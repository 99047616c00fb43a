"""Width: in which type an intermediate of 16 bits is kept in the workspace.

Machines keep them in ``Machine.activation``, as a rule. Inputs of products that do not come to a worker in one trip
(``Machine.staged``) are kept as the graph has them: half the bytes, and nothing to convert on the way. These share
memory with no others (``assemble.py``), so that nobody has to wait until an earlier value is read before he stores one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Expr
from onelaunch.graph.expr import Op
from onelaunch.graph.expr import loads
from onelaunch.graph.nest import Nest
from onelaunch.program.machine import Machine
from onelaunch.program.program import maximum

HALF = (DType.BF16, DType.F16)


def width(name: str, dtype: DType, users: Sequence[Nest], machine: Machine) -> DType:
    """The type of the intermediate ``name``, which the graph has as ``dtype``, for the nests that read it."""
    if dtype not in HALF:
        return dtype
    if machine.staged and users and all(_takes_whole(nest, name, machine.staged) for nest in users):
        return dtype
    return machine.activation


def _takes_whole(nest: Nest, name: str, staged: int) -> bool:
    """Whether a nest reads a value as the inputs of its products alone, and more than ``staged`` bytes of fp32."""
    own = [c for c in nest.contractions if _bare(c.x).op is Op.LOAD and _bare(c.x).attr == name]
    others = [nest.body, *nest.index, *(c.w for c in nest.contractions)]
    others += [c.x for c in nest.contractions if c not in own]
    if not own or nest.attention is not None or any(e.attr == name for root in others for e in loads(root)):
        return False
    rows = math.prod(maximum(v.args[0]) for v in nest.vars[:-1])
    return all(c.w.dtype is _bare(c.x).dtype and 4 * rows * maximum(c.var.args[0]) > staged for c in own)


def _bare(e: Expr) -> Expr:
    """A load without the casts to a wider type around it."""
    while e.op is Op.CAST and e.dtype.itemsize >= e.args[0].dtype.itemsize:
        e = e.args[0]
    return e
