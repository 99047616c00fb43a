"""Symbolic sizes of a captured graph: names and ranges, read from torch's shape environment."""

from __future__ import annotations

import torch

UNBOUNDED = 2**31 - 1  # the hint of a size that was never seen
WIDE = (-(2**62), 2**62)  # range of a symbol of which torch knows no bounds


def ranges(module: torch.fx.GraphModule) -> dict[str, tuple[int, int]]:
    """Least and greatest value of every symbol among the placeholders' sizes, by the symbol's name (``s77``).

    Bounds that torch does not know are those of WIDE: what is simplified by a range must hold in all of it.
    """
    found: dict[str, tuple[int, int]] = {}
    for node in module.graph.nodes:
        if node.op != "placeholder":
            continue
        value = node.meta.get("val")
        sizes = [value] if isinstance(value, torch.SymInt) else []
        if isinstance(value, torch.Tensor):
            sizes = [s for s in (*value.shape, *value.stride()) if isinstance(s, torch.SymInt)]
        for size in sizes:
            for symbol in size.node.expr.free_symbols:
                known = size.node.shape_env.var_to_range[symbol]
                found[str(symbol)] = (_finite(known.lower, WIDE[0]), _finite(known.upper, WIDE[1]))
    return found


def hint(size: int | torch.SymInt) -> int:
    """The value a size had in the call that was captured; UNBOUNDED where none was seen."""
    if isinstance(size, int):
        return size
    return int(size.node.hint) if size.node.has_hint() else UNBOUNDED


def _finite(bound: object, otherwise: int) -> int:
    try:
        value: int = int(bound)  # type: ignore[call-overload]
    except (AttributeError, OverflowError, TypeError, ValueError):  # sympy's infinities
        return otherwise
    return min(max(value, WIDE[0]), WIDE[1])
